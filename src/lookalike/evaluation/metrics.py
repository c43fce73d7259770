"""Retrieval metrics: pure functions of Ranks, one value a query.

Definitions follow Musgrave et al., "A Metric Learning Reality Check", ECCV 2020, section 3.2.
What differs names its source. Every value lies in [0, 1]. A metric is undefined for queries
without a relevant item, so means are taken over the others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings, count_relevant
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.ranks import Ranks, place_in_query, rank_relevant
from lookalike.retrieval.relevance import Judged, rows_of

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


def average_precision_at_k(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """The precision at relevant items among the k nearest, summed, by the most there can be, (Q,).

    mAP@100 of Google Landmarks v2 (Weyand et al., CVPR 2020), mAP@1000 of ILIAS (CVPR 2025).

    >>> average_precision_at_k(Ranks(np.array([0, 0]), np.array([1, 4]), np.array([3])), 2).tolist()
    [0.5]
    """
    found = ranks.total(_precision(ranks) * (ranks.rank <= k))
    return found / np.minimum(_at_least_1(ranks.n_relevant), k)


def trapezoid_average_precision(ranks: Ranks) -> NDArray[np.float64]:
    """The area below precision over recall, drawn with straight lines, (Q,).

    `compute_ap` of Radenović et al., CVPR 2018, as Oxford and Paris have always been measured. It
    is higher or lower than `average_precision`, which sums steps. Needs the whole ranking.

    >>> trapezoid_average_precision(Ranks(np.array([0]), np.array([2]), np.array([1]))).tolist()
    [0.25]
    """
    before = np.where(ranks.rank == 1, 1, (ranks.place - 1) / np.maximum(ranks.rank - 1, 1))
    return ranks.total((before + _precision(ranks)) / 2) / _at_least_1(ranks.n_relevant)


def precision_at_k(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """The share of relevant items among the k nearest, (Q,), or down to the last relevant one.

    mP@k of `compute_map`, Radenović et al., CVPR 2018: a query whose relevant items all come before
    rank k is measured at the rank of the last. Needs the whole ranking.
    """
    last = ranks.total(ranks.rank * (ranks.place == ranks.n_relevant[ranks.query]))
    depth = np.minimum(np.maximum(last, 1), k)
    return ranks.total(ranks.rank <= depth[ranks.query]) / depth


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
    k: Sequence[int],
    whole_ranking: bool,
    minp: bool = False,
    map_at: Sequence[int] = (),
    trapezoid: bool = False,
) -> tuple[Metric, ...]:
    """The metrics of an evaluation: recall at each k, P@1, R-precision and MAP@R at least.

    Args:
        k: from 1 on, for recall@k.
        whole_ranking: whether MAP is one of them.
        minp: whether mINP is one of them; it needs the whole ranking too.
        map_at: from 1 on, for MAP at so many of the nearest.
        trapezoid: whether MAP by trapezoids and mP@k are; they need the whole ranking too.
    """
    always = (
        *_at_each("recall_at", recall_at_k, k),
        Metric("precision_at_1", precision_at_1),
        Metric("r_precision", r_precision),
        Metric("map_at_r", map_at_r),
        *_at_each("map_at", average_precision_at_k, map_at),
    )
    whole = (Metric("map", average_precision),) if whole_ranking else ()
    hardest = (Metric("minp", inverse_negative_penalty),) if minp else ()
    if not trapezoid:
        return always + whole + hardest
    area = Metric("map_trapezoid", trapezoid_average_precision)
    return (*always, *whole, *hardest, area, *_at_each("mean_precision_at", precision_at_k, k))


def _at_each(
    name: str, metric: Callable[[Ranks, int], NDArray[np.float64]], depths: Sequence[int]
) -> Iterator[Metric]:
    for at in depths:
        yield Metric(f"{name}_{at}", lambda ranks, at=at: metric(ranks, at))


def values_of(
    queries: Embeddings,
    gallery: Embeddings,
    k: Sequence[int],
    whole_ranking: bool,
    minp: bool = False,
    search: Search | None = None,
    engines: Engines | None = None,
    *,
    map_at: Sequence[int] = (),
    trapezoid: bool = False,
    judged: Judged | None = None,
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
        map_at: from 1 on, for MAP at so many of the nearest.
        trapezoid: whether MAP by trapezoids and mP@k are computed; they need `whole_ranking`.
        judged: what is relevant and what is left out, in place of labels and exclusion ids.
    """
    metrics = retrieval_metrics(k, whole_ranking, minp, map_at, trapezoid)
    values = {metric.name: np.full(len(queries), np.nan) for metric in metrics}
    counts = count_relevant(queries, gallery) if judged is None else judged.count()
    depth = None if whole_ranking else np.maximum(counts, max(*k, *map_at, 1))
    found_by = rank_relevant if search is None else partial(_searched, search)
    for rows, ranks in found_by(queries, gallery, depth, engines, judged):
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
    judged: Judged | None,
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Blocks of queries, as row numbers, with the ranks of the relevant items that were found."""
    deepest = len(gallery) if depth is None else int(depth.max(initial=1))
    if judged is not None:
        deepest = min(len(gallery), deepest + int(judged.left_out().max(initial=0)))
    first = 0
    for found in search(Gallery(gallery, engines), queries, deepest):
        rows = np.arange(first, first + len(found.ids))
        first += len(rows)
        if judged is not None:
            yield rows, _by_judgement(found, gallery, judged.at(rows))
            continue
        query, column = np.nonzero(found.relevant)
        yield rows, Ranks(query, column + 1, found.n_relevant)


def _by_judgement(found: Neighbours, gallery: Embeddings, judged: Judged) -> Ranks:
    """The ranks of what was found, without what is left out; of equal scores irrelevant first."""
    query, column = np.nonzero(found.ids >= 0)
    row = rows_of(found.ids[query, column], gallery.ids)
    ranked, relevant = judged.of_pairs(query, row)
    query, relevant = query[ranked], relevant[ranked]
    scores = found.scores[query, column[ranked]]
    order = np.lexsort((relevant, -scores, query))
    rank = place_in_query(query, len(found.ids))
    hits = relevant[order]
    return Ranks(query[order][hits], rank[hits], judged.count())


def _within_r(ranks: Ranks) -> NDArray[np.bool_]:
    return ranks.rank <= ranks.n_relevant[ranks.query]


def _precision(ranks: Ranks) -> NDArray[np.float64]:
    return ranks.place / ranks.rank


def _at_least_1(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.maximum(counts, 1)
