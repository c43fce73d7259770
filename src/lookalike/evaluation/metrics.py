"""Retrieval metrics: pure functions of Ranks, one value a query.

Definitions after Musgrave et al., "A Metric Learning Reality Check", ECCV 2020, section 3.2.
The mean is taken over the queries that have a relevant item; the others have no defined value.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings, count_relevant
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.ranks import Ranks, rank_relevant

Search = Callable[[Gallery, Embeddings, int], Iterator[Neighbours]]


def recall_at_k(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """1 for a query with a relevant item among its k nearest, otherwise 0, (Q,).

    Its mean is the cumulative matching characteristic of re-identification: CMC@k, or rank-k.
    """
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


def inverse_negative_penalty(ranks: Ranks) -> NDArray[np.float64]:
    """The number of relevant items over the rank of the last of them, (Q,); its mean is mINP.

    Ye et al., TPAMI 2021, arXiv:2001.04193, equation 3. Needs the whole ranking.
    """
    last = ranks.total(ranks.rank * (ranks.place == ranks.n_relevant[ranks.query]))
    return ranks.n_relevant / np.maximum(last, 1)


@dataclass(frozen=True)
class Metric:
    """A name, a value for each query, and whether more of it is better."""

    name: str
    values: Callable[[Ranks], NDArray[np.float64]]
    higher_is_better: bool = True


def retrieval_metrics(
    k: Sequence[int], whole_ranking: bool, minp: bool = False
) -> tuple[Metric, ...]:
    """Recall at each `k`, P@1, R-precision, MAP@R; from the whole ranking MAP and `minp`."""
    recalls = tuple(
        Metric(f"recall_at_{at}", lambda ranks, at=at: recall_at_k(ranks, at)) for at in k
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
    search: Search | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Every metric for every query, (Q,) each, NaN where it is not defined.

    `minp` needs `whole_ranking`; `search` re-ranks, null takes the order of similarity.
    """
    metrics = retrieval_metrics(k, whole_ranking, minp)
    values = {metric.name: np.full(len(queries), np.nan) for metric in metrics}
    depth = None if whole_ranking else np.maximum(count_relevant(queries, gallery), max(k))
    found_by = rank_relevant if search is None else partial(_searched, search)
    for rows, ranks in found_by(queries, gallery, depth):
        for metric in metrics:
            found = metric.values(ranks)
            values[metric.name][rows] = np.where(ranks.n_relevant > 0, found, np.nan)
    return values


def _searched(
    search: Search, queries: Embeddings, gallery: Embeddings, depth: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Blocks of queries, as row numbers, with the ranks of their relevant items in a search."""
    deepest = len(gallery) if depth is None else int(depth.max(initial=1))
    first = 0
    for found in search(Gallery(gallery), queries, deepest):
        query, column = np.nonzero(found.relevant)
        rows = np.arange(first, first + len(found.ids))
        yield rows, Ranks(query, column + 1, found.n_relevant)
        first += len(rows)


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
