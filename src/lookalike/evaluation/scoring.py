"""The scores of embeddings, as an evaluation plan asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.device import CPU
from lookalike.errors import InputError
from lookalike.evaluation.classification import CLASSIFICATION, recall_within_class
from lookalike.evaluation.clustering import clustering
from lookalike.evaluation.gathering import gather_by_id, with_exclusion_ids
from lookalike.evaluation.lengths import AT_LENGTH
from lookalike.evaluation.metrics import values_of
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.recognition import recognition_scores
from lookalike.files import writing
from lookalike.losses.classifier import EmbeddingClassifier
from lookalike.retrieval.embeddings import Embeddings, count_relevant
from lookalike.retrieval.relevance import Judged
from lookalike.retrieval.rerank import NoReranking

WITHIN = "recall_within_class"
OF_CLASSIFIER = (*(metric.name for metric in CLASSIFICATION), WITHIN)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of embeddings.

    scores: by name, each the mean over the queries that have a relevant item.
    values: by name, of every query of all ranks in order of its id, (Q,); NaN without a relevant
        item.
    ids: (Q,) int64, of the queries.
    """

    scores: dict[str, float]
    values: dict[str, NDArray[np.float64]]
    ids: NDArray[np.int64]

    def save(self, file: Path) -> None:
        """Write the values of every query, for `query_values`; as float32, compressed."""
        columns: dict[str, Any] = {
            name: values.astype(np.float32) for name, values in self.values.items()
        }
        with writing(file, "wb") as stream:
            np.savez_compressed(stream, ids=self.ids, **columns)

    def without_classifier(self) -> "Measured":
        """The same without what a classifier was measured by."""
        kept = {name: score for name, score in self.scores.items() if name not in OF_CLASSIFIER}
        return Measured(kept, self.values, self.ids)


def measure(
    plan: Evaluation,
    own: Embeddings,
    everything: Embeddings,
    records: Records,
    classifier: EmbeddingClassifier | None = None,
    device: torch.device = CPU,
    lengths: Sequence[int] = (),
) -> Measured:
    """All metrics of a plan, each the mean over the queries that have a relevant item.

    Where the data set judges its images, each setup has its metrics, with its name behind theirs.
    Beside them stand the counts `queries` and `queries_without_positive`, and `ranking_seconds`
    if the plan re-ranks. A classifier that knows all measured classes adds its `accuracy` and
    `loss` over all images, and `recall_within_class` over the queries. The metrics of shorter
    embeddings end in their length, as in `map_at_r_length_64`.

    Args:
        plan: what to measure.
        own: the embeddings that this rank computed; without distributed training, all of them.
        everything: the embeddings of all ranks, from `gather_embeddings`.
        records: which images are queries, which are the gallery, and which gallery images are
            excluded for a query; an embedding's id is its row here.
        classifier: the one that was trained with the embedding, if any.
        device: where the nearest are sought, and ranks exchange.
        lengths: at which the embeddings are measured as well, cut to their first numbers.

    Raises:
        InputError: no query has a relevant item in the gallery, or classes are to be found among
            images that have none.
    """
    if plan.clustering and records.judgements:
        raise InputError(
            "evaluation.clustering=true compares clusters with classes, and this data set says "
            "which images answer a query, not of which class they are. Leave it out."
        )
    queries = with_exclusion_ids(own, records)[records.roles[own.ids] != "gallery"]
    gallery = everything[records.roles[everything.ids] != "query"]
    started = perf_counter()
    own_values = _every_setup(plan, queries, gallery, everything, records, device)
    seconds = perf_counter() - started
    for length in lengths:
        ask, find, every = (part.shortened(length) for part in (queries, gallery, everything))
        values = _every_setup(plan, ask, find, every, records, device)
        own_values |= {f"{name}{AT_LENGTH}{length}": column for name, column in values.items()}
    ids, values = gather_by_id(queries.ids, own_values, device)
    counts = _count_queries(values)
    scores = _means(values)
    if plan.recognition is not None:
        known = ~np.isnan(next(iter(own_values.values())))
        columns = plan.recognition.columns(queries, gallery, known, plan.engines(device))
        scores |= recognition_scores(gather_by_id(queries.ids, columns, device)[1])
    if classifier is not None:
        scores |= _classifier_scores(classifier, everything, gallery, records)
    if plan.clustering:
        scores |= clustering(everything)
    scores |= counts
    if not _keeps_order(plan):
        scores["ranking_seconds"] = seconds
    return Measured(scores, values, ids)


def check_monitor(
    plan: Evaluation,
    classifier: EmbeddingClassifier | None,
    records: Records,
    ids: NDArray[np.int64],
) -> None:
    """Check that the monitored metric can be measured on these records.

    Args:
        plan: which metric is monitored.
        classifier: of the loss; None without one.
        records: all of the data set.
        ids: (M,) of the records that are measured.

    Raises:
        InputError: the metric is a classifier's, and there is none or it lacks a class.
    """
    known = classifier is not None and (records.labels_as(classifier.class_names)[ids] >= 0).all()
    if plan.monitors_classifier and not known:
        raise InputError(
            f"evaluation.monitor={plan.monitor} is a classifier's, so it needs a loss that has one "
            "and to be measured on the classes that train. Set loss=softmax (or softmax_triplet, "
            "norm_softmax, arcface, cosface) and data.protocol=official or seen_classes, or "
            "evaluation.monitor=map_at_r."
        )


def _every_setup(
    plan: Evaluation,
    queries: Embeddings,
    gallery: Embeddings,
    everything: Embeddings,
    records: Records,
    device: torch.device,
) -> dict[str, NDArray[np.float64]]:
    """Every metric for every query, (Q,) each; once by labels, or once for each setup."""
    if not records.judgements:
        return _query_values(plan, queries, gallery, everything, device, None)
    return {
        f"{name}{setup.suffix}": values
        for setup in records.judgements
        for name, values in _query_values(
            plan, queries, gallery, everything, device, Judged.of(setup, queries, gallery)
        ).items()
    }


def _query_values(
    plan: Evaluation,
    queries: Embeddings,
    gallery: Embeddings,
    everything: Embeddings,
    device: torch.device,
    judged: Judged | None,
) -> dict[str, NDArray[np.float64]]:
    """Every metric of the plan for every query, (Q,) each."""
    search = None if _keeps_order(plan) else partial(plan.rerank, everything=everything)
    return values_of(
        queries, gallery, plan.k, plan.whole_ranking, plan.minp, search, plan.engines(device),
        map_at=plan.map_at, trapezoid=plan.trapezoid, judged=judged,
    )  # fmt: skip


def _keeps_order(plan: Evaluation) -> bool:
    """Whether the first search is the final ranking."""
    return isinstance(plan.rerank, NoReranking)


def _count_queries(values: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """How many queries there are, and how many have no relevant item in each setup: the NaNs."""
    name = "precision_at_1"
    missing = {
        key.removeprefix(name): int(np.isnan(column).sum())
        for key, column in values.items()
        if key.startswith(name) and AT_LENGTH not in key  # the same queries at every length
    }
    queries = len(next(iter(values.values())))
    if min(missing.values()) == queries:
        raise InputError(
            f"none of the {queries} queries has another image of its class in the gallery, so "
            "nothing can be measured. Check labels, roles and data.protocol."
        )
    without = {f"queries_without_positive{suffix}": float(n) for suffix, n in missing.items()}
    return {"queries": float(queries), **without}


def _means(values: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """The mean of each metric over the images or queries for which it is defined, if any."""
    defined = {name: column[~np.isnan(column)] for name, column in values.items()}
    return {name: float(column.mean()) for name, column in defined.items() if len(column)}


def _classifier_scores(
    classifier: EmbeddingClassifier, everything: Embeddings, gallery: Embeddings, records: Records
) -> dict[str, float]:
    """The classifier's metrics; none if a measured class is unknown to it.

    Every rank computes all of them: the last digits of a product depend on how many rows it has.
    """
    labels = records.labels_as(classifier.class_names)[everything.ids]
    if (labels < 0).any():
        return {}
    logits = classifier(everything.vectors)
    per_image = {metric.name: metric.values(logits, labels) for metric in CLASSIFICATION}
    asked = records.roles[everything.ids] != "gallery"
    relevant = count_relevant(everything[asked], gallery)
    within = recall_within_class(logits.argmax(1)[asked], labels[asked], relevant)
    return _means(per_image | {WITHIN: within})
