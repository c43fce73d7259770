"""Retrieval metrics: pure functions of Neighbours, one value a query.

Definitions after Musgrave et al., "A Metric Learning Reality Check", ECCV 2020, section 3.2.
The mean is taken over the queries that have a relevant item; the others have no defined value.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.neighbours import Gallery, Neighbours


def recall_at_k(neighbours: Neighbours, k: int) -> NDArray[np.float64]:
    """1 for a query with a relevant item among its k nearest, otherwise 0, (Q,).

    Its mean is the cumulative matching characteristic of re-identification: CMC@k, or rank-k.
    """
    return np.any(neighbours.relevant[:, :k], axis=1).astype(np.float64)


def precision_at_1(neighbours: Neighbours) -> NDArray[np.float64]:
    """1 for a query whose nearest item is relevant, otherwise 0, (Q,)."""
    return neighbours.relevant[:, 0].astype(np.float64)


def r_precision(neighbours: Neighbours) -> NDArray[np.float64]:
    """The share of relevant items among the R nearest, R being how many there are, (Q,)."""
    return _relevant_until_r(neighbours).sum(axis=1) / _at_least_1(neighbours.n_relevant)


def map_at_r(neighbours: Neighbours) -> NDArray[np.float64]:
    """The mean over the R nearest of precision where relevant and 0 elsewhere, (Q,)."""
    return _summed_precision(_relevant_until_r(neighbours)) / _at_least_1(neighbours.n_relevant)


def average_precision(neighbours: Neighbours) -> NDArray[np.float64]:
    """The mean precision at the ranks of all relevant items, (Q,). Needs the whole ranking."""
    return _summed_precision(neighbours.relevant) / _at_least_1(neighbours.n_relevant)


def inverse_negative_penalty(neighbours: Neighbours) -> NDArray[np.float64]:
    """The number of relevant items over the rank of the last of them, (Q,); its mean is mINP.

    Ye et al., TPAMI 2021, arXiv:2001.04193, equation 3. Needs the whole ranking.
    """
    from_last = np.argmax(neighbours.relevant[:, ::-1], axis=1)
    return neighbours.n_relevant / (neighbours.relevant.shape[1] - from_last)


@dataclass(frozen=True)
class Metric:
    """A name, a value for each query, and whether more of it is better."""

    name: str
    values: Callable[[Neighbours], NDArray[np.float64]]
    higher_is_better: bool = True


def retrieval_metrics(
    k: Sequence[int], whole_ranking: bool, minp: bool = False
) -> tuple[Metric, ...]:
    """Recall at each `k`, P@1, R-precision, MAP@R; from the whole ranking MAP and `minp`."""
    recalls = tuple(
        Metric(f"recall_at_{at}", lambda neighbours, at=at: recall_at_k(neighbours, at)) for at in k
    )
    always = (
        Metric("precision_at_1", precision_at_1),
        Metric("r_precision", r_precision),
        Metric("map_at_r", map_at_r),
    )
    whole = (Metric("map", average_precision),) if whole_ranking else ()
    hardest = (Metric("minp", inverse_negative_penalty),) if minp else ()
    return recalls + always + whole + hardest


def values_of(
    queries: Embeddings,
    gallery: Embeddings,
    k: Sequence[int],
    whole_ranking: bool,
    minp: bool = False,
    search: Callable[[Gallery, Embeddings, int], Iterator[Neighbours]] = Gallery.search,
) -> dict[str, NDArray[np.float64]]:
    """Every metric for every query, (Q,) each, NaN where it is not defined; one search.

    `minp` needs `whole_ranking`; `search` may re-rank.
    """
    indexed = Gallery(gallery)
    n_relevant = indexed.n_relevant(queries)
    deepest = max(*k, 1, int(n_relevant.max(initial=0)))
    depth = max(deepest, len(gallery)) if whole_ranking else deepest
    metrics = retrieval_metrics(k, whole_ranking, minp)
    blocks = [
        [metric.values(neighbours) for metric in metrics]
        for neighbours in search(indexed, queries, depth)
    ]
    defined = n_relevant > 0
    if not blocks:  # a rank without queries
        return {metric.name: np.zeros(0) for metric in metrics}
    return {
        metric.name: np.where(defined, np.concatenate(column), np.nan)
        for metric, column in zip(metrics, zip(*blocks, strict=True), strict=True)
    }


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


def _relevant_until_r(neighbours: Neighbours) -> NDArray[np.bool_]:
    ranks = np.arange(neighbours.relevant.shape[1])
    return neighbours.relevant & (ranks < neighbours.n_relevant[:, None])


def _summed_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Precision at each relevant rank, summed, (Q,)."""
    precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
    return (precision * relevant).sum(axis=1)


def _at_least_1(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.maximum(counts, 1)
