"""Retrieval metrics: pure functions of Ranks, one value a query.

Definitions after Musgrave et al., "A Metric Learning Reality Check", ECCV 2020, section 3.2.
The mean is taken over the queries that have a relevant item; the others have no defined value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings, count_relevant
from lookalike.retrieval.ranks import Ranks, rank_relevant


def recall_at_k(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """1 for a query with a relevant item among its k nearest, otherwise 0, (Q,)."""
    return (ranks.total(ranks.rank <= k) > 0).astype(np.float64)


def precision_at_1(ranks: Ranks) -> NDArray[np.float64]:
    """1 for a query whose nearest item is relevant, otherwise 0, (Q,)."""
    return recall_at_k(ranks, 1)


def r_precision(ranks: Ranks) -> NDArray[np.float64]:
    """The share of relevant items among the R nearest, R being how many there are, (Q,)."""
    return ranks.total(_until_r(ranks)) / _at_least_1(ranks.n_relevant)


def map_at_r(ranks: Ranks) -> NDArray[np.float64]:
    """The mean over the R nearest of precision where relevant and 0 elsewhere, (Q,)."""
    return ranks.total(_precision(ranks) * _until_r(ranks)) / _at_least_1(ranks.n_relevant)


def average_precision(ranks: Ranks) -> NDArray[np.float64]:
    """The mean precision at the ranks of all relevant items, (Q,). Needs the whole ranking."""
    return ranks.total(_precision(ranks)) / _at_least_1(ranks.n_relevant)


@dataclass(frozen=True)
class Metric:
    """A name, a value for each query, and whether more of it is better."""

    name: str
    values: Callable[[Ranks], NDArray[np.float64]]
    higher_is_better: bool = True


def retrieval_metrics(k: Sequence[int], whole_ranking: bool) -> tuple[Metric, ...]:
    """Recall at each `k`, P@1, R-precision, MAP@R and, from the whole ranking, MAP."""
    recalls = tuple(
        Metric(f"recall_at_{at}", lambda ranks, at=at: recall_at_k(ranks, at)) for at in k
    )
    always = (
        Metric("precision_at_1", precision_at_1),
        Metric("r_precision", r_precision),
        Metric("map_at_r", map_at_r),
    )
    whole = (Metric("map", average_precision),) if whole_ranking else ()
    return recalls + always + whole


def values_of(
    queries: Embeddings, gallery: Embeddings, k: Sequence[int], whole_ranking: bool
) -> dict[str, NDArray[np.float64]]:
    """Every metric for every query, (Q,) each, NaN where it is not defined."""
    metrics = retrieval_metrics(k, whole_ranking)
    values = {metric.name: np.full(len(queries), np.nan) for metric in metrics}
    depth = None if whole_ranking else np.maximum(count_relevant(queries, gallery), max(k))
    for rows, ranks in rank_relevant(queries, gallery, depth):
        for metric in metrics:
            found = metric.values(ranks)
            values[metric.name][rows] = np.where(ranks.n_relevant > 0, found, np.nan)
    return values


def clustering(embeddings: Embeddings, seed: int = 0) -> dict[str, float]:
    """NMI and AMI of k-means with as many clusters as classes, against the classes."""
    import faiss
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    classes = len(np.unique(embeddings.labels))
    kmeans = faiss.Kmeans(
        embeddings.vectors.shape[1],
        classes,
        niter=25,
        nredo=3,
        seed=seed,
        min_points_per_centroid=1,
    )
    kmeans.train(embeddings.vectors)
    _, assigned = kmeans.index.search(embeddings.vectors, 1)
    return {
        "nmi": float(normalized_mutual_info_score(embeddings.labels, assigned[:, 0])),
        "ami": float(adjusted_mutual_info_score(embeddings.labels, assigned[:, 0])),
    }


def _until_r(ranks: Ranks) -> NDArray[np.bool_]:
    return ranks.rank <= ranks.n_relevant[ranks.query]


def _precision(ranks: Ranks) -> NDArray[np.float64]:
    return ranks.place / ranks.rank


def _at_least_1(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.maximum(counts, 1)
