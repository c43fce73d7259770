"""Scores of embeddings by an evaluation's plan; under distributed training, over all ranks."""

from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch.distributed
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.evaluation.classification import CLASSIFICATION, recall_within_class
from lookalike.evaluation.metrics import clustering, values_of
from lookalike.evaluation.plan import Evaluation
from lookalike.losses.classifier import EmbeddingClassifier
from lookalike.retrieval.embeddings import Embeddings, collect, count_relevant
from lookalike.retrieval.rerank import NoReranking

T = TypeVar("T")


def score(
    plan: Evaluation,
    own: Embeddings,
    everything: Embeddings,
    records: Records,
    classifier: EmbeddingClassifier | None = None,
) -> dict[str, float]:
    """All metrics of a plan, with `queries` and `queries_without_positive` beside them, and
    `ranking_seconds` if the plan re-ranks.

    With a classifier that knows all classes that are measured, its `accuracy` and `loss` over all
    images too, and `recall_within_class` over the queries.

    Args:
        plan: what to measure.
        own: the embeddings made by this rank; without distributed training, all of them.
        everything: those of all ranks, as `of_all_ranks` puts them together.
        records: who asks, who is found, and which images never meet; ids are their rows.
        classifier: that was trained with the embedding.
    """
    queries = _with_exclusion_ids(own, records)[records.roles[own.ids] != "gallery"]
    gallery = everything[records.roles[everything.ids] != "query"]
    not_reranked = isinstance(plan.rerank, NoReranking)
    started = perf_counter()
    own_values = values_of(
        queries,
        gallery,
        plan.k,
        plan.whole_ranking,
        plan.minp,
        None if not_reranked else partial(plan.rerank, everything=everything),
    )
    seconds = perf_counter() - started
    ids, values = _by_id(_gathered((queries.ids, own_values)))
    without_positive = int(np.isnan(values["precision_at_1"]).sum())
    if without_positive == len(ids):
        raise InputError(
            f"none of the {len(ids)} queries has another image of its class in the gallery, so "
            "nothing can be measured. Check labels, roles and data.protocol."
        )
    means = {name: float(np.nanmean(column)) for name, column in values.items()}
    means |= {} if classifier is None else _classified(classifier, own, queries, gallery, records)
    clusters = clustering(everything) if plan.clustering else {}
    counts = {"queries": float(len(ids)), "queries_without_positive": float(without_positive)}
    costs = {} if not_reranked else {"ranking_seconds": seconds}
    return means | clusters | counts | costs


def of_all_ranks(own: Embeddings, records: Records) -> Embeddings:
    """The embeddings of every rank, each image once, in order of id, with their exclusion_ids."""
    return _with_exclusion_ids(_merge(_gathered(own)), records)


def _classified(
    classifier: EmbeddingClassifier,
    own: Embeddings,
    queries: Embeddings,
    gallery: Embeddings,
    records: Records,
) -> dict[str, float]:
    """Means of all ranks; nothing where one of their images is of a class it does not know."""
    labels = records.labels_as(classifier.class_names)
    if any((labels[ids] < 0).any() for ids in _gathered(own.ids)):
        return {}
    logits = classifier(own.vectors)
    per_image = {each.name: each.values(logits, labels[own.ids]) for each in CLASSIFICATION}
    asking = np.isin(own.ids, queries.ids)
    within = recall_within_class(
        logits.argmax(1)[asking], labels[queries.ids], count_relevant(queries, gallery)
    )
    _, image_values = _by_id(_gathered((own.ids, per_image)))
    _, query_values = _by_id(_gathered((queries.ids, {"recall_within_class": within})))
    return {name: float(np.nanmean(v)) for name, v in (image_values | query_values).items()}


def check_monitor(
    plan: Evaluation,
    classifier: EmbeddingClassifier | None,
    records: Records,
    ids: NDArray[np.int64],
) -> None:
    """Raises InputError where a plan monitors a classifier that there is not, or that does not know
    the classes of these records."""
    known = classifier is not None and (records.labels_as(classifier.class_names)[ids] >= 0).all()
    if plan.monitors_classifier and not known:
        raise InputError(
            f"evaluation.monitor={plan.monitor} is a classifier's, so it needs a loss that has one "
            "and to be measured on the classes that train. Set loss=softmax (or softmax_triplet, "
            "norm_softmax, arcface, cosface) and data.protocol=official or seen_classes, or "
            "evaluation.monitor=map_at_r."
        )


def _gathered(own: T) -> list[T]:
    """What every rank holds, in order of rank."""
    if not torch.distributed.is_initialized():
        return [own]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


def _merge(parts: list[Embeddings]) -> Embeddings:
    """One set, ordered by id, each id once."""
    filled = [part for part in parts if len(part)]
    return collect(
        [
            (torch.from_numpy(p.vectors), torch.from_numpy(p.labels), torch.from_numpy(p.ids))
            for p in filled
        ]
    )


def _with_exclusion_ids(embeddings: Embeddings, records: Records) -> Embeddings:
    return replace(embeddings, exclusion_ids=records.exclusion_ids[embeddings.ids])


def _by_id(
    parts: list[tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Values of all ranks in the order of their query's id, so that sums are the same."""
    ids = np.concatenate([part_ids for part_ids, _ in parts])
    order = np.argsort(ids)
    names = parts[0][1]
    return ids[order], {
        name: np.concatenate([values[name] for _, values in parts])[order] for name in names
    }
