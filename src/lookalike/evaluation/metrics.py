"""Retrieval metrics: pure functions of Ranks, one value a query.

Definitions follow Musgrave et al., "A Metric Learning Reality Check", ECCV 2020, section 3.2.
Every value lies in [0, 1]. A metric is undefined for queries without a relevant item, so means are
taken over the others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings, count_relevant
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.ranks import Ranks, rank_relevant

Search = Callable[[Gallery, Embeddings, int], Iterator[Neighbours]]  # gallery, queries, k


def recall_at_k(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """1 for a query with a relevant item among its k nearest, otherwise 0, (Q,).

    Re-identification calls its mean CMC@k, the cumulative matching characteristic, or rank-k.

    >>> ranks = Ranks(np.array([0, 1]), np.array([1, 3]), np.array([1, 1]))  # found at 1 and at 3
    >>> recall_at_k(ranks, k=2).tolist()
    [1.0, 0.0]
    """
    return (ranks.total(ranks.rank <= k) > 0).astype(np.float64)


def precision_at_1(ranks: Ranks) -> NDArray[np.float64]:
    """1 for a query whose nearest item is relevant, otherwise 0, (Q,)."""
    return recall_at_k(ranks, 1)


def r_precision(ranks: Ranks) -> NDArray[np.float64]:
    """The share of relevant items among the R nearest, (Q,); R is the query's number of them."""
    return ranks.total(_within_r(ranks)) / _at_least_1(ranks.n_relevant)


def map_at_r(ranks: Ranks) -> NDArray[np.float64]:
    """The mean over the R nearest of the precision at relevant items, 0 at others, (Q,)."""
    return ranks.total(_precision(ranks) * _within_r(ranks)) / _at_least_1(ranks.n_relevant)


def average_precision(ranks: Ranks) -> NDArray[np.float64]:
    """The mean precision at the ranks of all relevant items, (Q,). Needs the whole ranking.

    >>> average_precision(Ranks(np.array([0, 0]), np.array([1, 4]), np.array([2]))).tolist()
    [0.75]
    """
    return ranks.total(_precision(ranks)) / _at_least_1(ranks.n_relevant)


def inverse_negative_penalty(ranks: Ranks) -> NDArray[np.float64]:
    """The number of relevant items divided by the rank of the last, (Q,); its mean is mINP.

    Ye et al., TPAMI 2021, arXiv:2001.04193, equation 3. Needs the whole ranking.
    """
    last = ranks.total(ranks.rank * (ranks.place == ranks.n_relevant[ranks.query]))
    return ranks.n_relevant / np.maximum(last, 1)


@dataclass(frozen=True)
class Metric:
    """A metric of single queries.

    name: as it is logged.
    values: ranks of Q queries -> (Q,) float64.
    higher_is_better: the metric's direction.
    """

    name: str
    values: Callable[[Ranks], NDArray[np.float64]]
    higher_is_better: bool = True


def retrieval_metrics(
    k: Sequence[int], whole_ranking: bool, minp: bool = False
) -> tuple[Metric, ...]:
    """The metrics of an evaluation: recall at each k, P@1, R-precision and MAP@R at least.

    Args:
        k: from 1 on, for recall@k.
        whole_ranking: whether MAP is one of them.
        minp: whether mINP is one of them; it needs the whole ranking too.
    """
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
    engines: Engines | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Every metric for every query, (Q,) each; NaN for queries without a relevant item.

    Args:
        queries: whose neighbours are sought.
        gallery: where they are sought; the queries may be in it.
        k: from 1 on, for recall@k.
        whole_ranking: whether MAP is computed.
        minp: whether mINP is computed; it needs `whole_ranking`.
        search: a search that re-ranks; None ranks by similarity.
        engines: that find the nearest; by default one is chosen, on the CPU.
    """
    metrics = retrieval_metrics(k, whole_ranking, minp)
    values = {metric.name: np.full(len(queries), np.nan) for metric in metrics}
    depth = None if whole_ranking else np.maximum(count_relevant(queries, gallery), max(k))
    found_by = rank_relevant if search is None else partial(_searched, search)
    for rows, ranks in found_by(queries, gallery, depth, engines):
        for metric in metrics:
            found = metric.values(ranks)
            values[metric.name][rows] = np.where(ranks.n_relevant > 0, found, np.nan)
    return values


def _searched(
    search: Search,
    queries: Embeddings,
    gallery: Embeddings,
    depth: NDArray[np.int64] | None,
    engines: Engines | None,
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Blocks of queries, as row numbers, with the ranks of the relevant items that were found."""
    deepest = len(gallery) if depth is None else int(depth.max(initial=1))
    first = 0
    for found in search(Gallery(gallery, engines), queries, deepest):
        query, column = np.nonzero(found.relevant)
        rows = np.arange(first, first + len(found.ids))
        yield rows, Ranks(query, column + 1, found.n_relevant)
        first += len(rows)


def _within_r(ranks: Ranks) -> NDArray[np.bool_]:
    return ranks.rank <= ranks.n_relevant[ranks.query]


def _precision(ranks: Ranks) -> NDArray[np.float64]:
    return ranks.place / ranks.rank


def _at_least_1(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.maximum(counts, 1)
