"""Ranks: at which places of a query's ranking its relevant items lie, exactly; ties count against.

All retrieval metrics are functions of these. A score is a cosine computed in float64 and rounded
to float32, so that equal vectors get equal scores wherever they lie, and the order of the gallery
plays no part. The rank of a relevant item is one more than the number of relevant items before it
plus the number of irrelevant ones that score as high or higher.

Ranks down to a `depth` come from candidates, whole ranks from counting: a leave-one-out evaluation
then computes every product once for both of its queries.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.retrieval.bounded import LARGEST, Bounded
from lookalike.retrieval.candidates import Engine
from lookalike.retrieval.embeddings import Embeddings, count_relevant, largest_exclusion
from lookalike.retrieval.exact import pair_scores
from lookalike.retrieval.order import ascending, descending

TILE = 2048  # queries or gallery items at once
BLOCK = 2**25  # products at once: 128 MiB
PAIRS = 2**22  # pairs that are kept at once
SMALL = 4096  # galleries up to this are quicker ranked whole
DEEPEST = 1 / 64  # of the gallery; queries that need more are quicker ranked whole


@dataclass(frozen=True, eq=False)
class Ranks:
    """P relevant items of Q queries, by query, nearest first.

    query: (P,) int64.
    rank: (P,) int64, from 1 on; items beyond the depth that was asked for may be missing.
    n_relevant: (Q,) int64, how many the gallery has.
    """

    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    n_relevant: NDArray[np.int64]

    @property
    def place(self) -> NDArray[np.int64]:
        """Of each among its query's relevant items, from 1 on, (P,)."""
        start = np.searchsorted(self.query, np.arange(len(self.n_relevant)))
        return np.arange(1, len(self.query) + 1) - start[self.query]

    def total(self, value: NDArray) -> NDArray[np.float64]:
        """The sum of a value over each query's relevant items, (P,) -> (Q,)."""
        return np.bincount(self.query, value, minlength=len(self.n_relevant)).astype(np.float64)


def rank_relevant(
    queries: Embeddings, gallery: Embeddings, depth: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Blocks of queries, as row numbers, with the ranks of their relevant items.

    Args:
        queries: gallery items with a query's own exclusion id are left out of its ranking.
        gallery: an exact copy of a query under another id counts.
        depth: (Q,) ranks that are of interest; None for all.
    """
    if _equal(queries, gallery):
        queries = gallery
    rows = np.arange(len(queries))
    if depth is not None and len(gallery) > SMALL and max(len(rows), len(gallery)) <= LARGEST:
        shallow = rows[depth < len(gallery) * DEEPEST]
        done = np.zeros(len(queries), bool)
        engine = Bounded(gallery.vectors)
        for block in _groups(shallow, depth[shallow]):
            found = _near(queries, gallery, block, depth, engine)
            done[found[0]] = True
            yield found
        rows = rows[~done]
    yield from _whole(queries, gallery, rows, None if depth is None else depth[rows])


def _equal(queries: Embeddings, gallery: Embeddings) -> bool:
    return np.array_equal(queries.ids, gallery.ids) and np.array_equal(
        queries.vectors, gallery.vectors
    )


def _groups(rows: NDArray[np.int64], pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows in as few runs as possible of about PAIRS each."""
    number = (np.cumsum(pairs) - pairs) // PAIRS
    return np.split(rows, np.flatnonzero(np.diff(number)) + 1) if len(rows) else []


def _near(
    queries: Embeddings,
    gallery: Embeddings,
    rows: NDArray[np.int64],
    depth: NDArray[np.int64],
    engine: Engine,
) -> tuple[NDArray[np.int64], Ranks]:
    """Those of the rows of which no rank down to the depth can be missing, and these ranks."""
    alone = len(rows) < len(gallery) or queries is not gallery
    asked = queries[rows] if alone else gallery
    listed = engine.candidates(asked.vectors, depth[rows] + largest_exclusion(gallery))
    other = asked.exclusion_ids[listed.query] != gallery.exclusion_ids[listed.row]
    query, row = listed.query[other], listed.row[other]
    relevant = asked.labels[query] == gallery.labels[row]
    keys = query.astype(np.uint64) << np.uint64(33)
    keys |= descending(pair_scores(asked.vectors, gallery.vectors, query, row)) << np.uint64(1)
    keys |= relevant.astype(np.uint64)  # of equal scores the irrelevant come first
    keys.sort()
    query = (keys >> np.uint64(33)).astype(np.int64)
    start = np.searchsorted(query, np.arange(len(rows) + 1))
    rank = np.arange(1, len(keys) + 1) - start[query]
    complete = listed.proven(_score_at(keys, start, depth[rows]))
    kept = (keys & np.uint64(1)).astype(bool) & (rank <= depth[rows][query]) & complete[query]
    number = np.cumsum(complete) - 1
    done = rows[complete]
    return done, Ranks(number[query[kept]], rank[kept], count_relevant(queries[done], gallery))


def _score_at(
    keys: NDArray[np.uint64], start: NDArray[np.int64], depth: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score at a depth of every query, (Q,), minus infinity where fewer are listed.

    Args:
        keys: (P,), sorted; the score of a pair stands above the lowest bit.
        start: (Q + 1,), where the keys of each query begin, and P.
        depth: (Q,), at least 1.
    """
    place = start[:-1] + depth - 1
    listed = place < start[1:]
    scores = np.full(len(depth), -np.inf, np.float32)
    scores[listed] = ascending((keys[place[listed]] >> np.uint64(1)) & np.uint64(2**32 - 1))
    return scores


@dataclass(frozen=True, eq=False)
class _Block:
    """Queries of neighbouring labels: their relevant scores, and what scores as high.

    rows: (B,) of the queries.
    scores: (B, R) float32, descending, minus infinity where there are fewer.
    ahead: (B, R) int64, irrelevant items counted so far that score as high.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    ahead: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.int64], queries: Embeddings, gallery: Embeddings) -> "_Block":
        """Queries, ordered by label as the gallery is."""
        first = np.searchsorted(gallery.labels, queries.labels, "left")
        end = np.searchsorted(gallery.labels, queries.labels, "right")
        span = gallery[first.min() : end.max()]
        column = first[:, None] - first.min() + np.arange((end - first).max())
        inside = column < (end - first.min())[:, None]
        column[~inside] = 0
        if not column.size:
            column, inside = np.zeros((2, len(rows), 0), np.int64)
        scores = np.take_along_axis(_products(queries, span), column, axis=1)
        excluded = span.exclusion_ids[column] == queries.exclusion_ids[:, None]
        scores[~inside.astype(bool) | excluded] = -np.inf
        scores = -np.sort(-scores, axis=1)
        return cls(rows, scores, np.zeros(scores.shape, np.int64))

    def count(self, irrelevant: NDArray[np.float32]) -> None:
        """Take scores of further irrelevant items into account, (B, C)."""
        ordered = torch.from_numpy(_sorted(irrelevant))
        below = torch.searchsorted(ordered, torch.from_numpy(self.scores), out_int32=True)
        self.ahead[:] += irrelevant.shape[1] - below.numpy()

    def ranks(self) -> Ranks:
        query, place = np.nonzero(np.isfinite(self.scores))
        n_relevant = np.bincount(query, minlength=len(self.rows))
        return Ranks(query, place + 1 + self.ahead[query, place], n_relevant)


def _whole(
    queries: Embeddings,
    gallery: Embeddings,
    rows: NDArray[np.int64],
    depth: NDArray[np.int64] | None,
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Ranks of the rows by counting, all or down to their depth, (len(rows),). Whatever has the
    same label lies together."""
    if not len(rows) or not len(gallery):
        return
    everyone = queries is gallery and len(rows) == len(gallery)
    gallery = gallery[np.argsort(gallery.labels, kind="stable")]
    order = np.argsort(queries.labels[rows], kind="stable")
    rows = rows[order]
    deepest = np.full(len(rows), len(gallery)) if depth is None else depth[order]
    asked = queries[rows]
    if everyone and _padded(count_relevant(asked, gallery)) <= 8 * PAIRS:
        yield from _count_both_ways(asked, rows)
        return
    step = max(1, min(TILE, BLOCK // len(gallery)))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        block = _Block.of(rows[part], asked[part], gallery)
        block.count(_highest(_irrelevant(asked[part], gallery), int(deepest[part].max())))
        yield block.rows, block.ranks()


def _padded(counts: NDArray[np.int64]) -> int:
    """How many scores the blocks of all queries hold."""
    return sum(int(counts[s : s + TILE].max()) * TILE for s in range(0, len(counts), TILE))


def _count_both_ways(
    everything: Embeddings, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Queries that are the gallery: a tile of products serves its rows and its columns."""
    parts = [slice(start, start + TILE) for start in range(0, len(rows), TILE)]
    blocks = [_Block.of(rows[part], everything[part], everything) for part in parts]
    for number, part in enumerate(parts):
        for other in range(number, len(parts)):
            scores = _irrelevant(everything[part], everything[parts[other]])
            blocks[number].count(scores)
            if other > number:
                blocks[other].count(scores.T)
        yield blocks[number].rows, blocks[number].ranks()


def _irrelevant(queries: Embeddings, gallery: Embeddings) -> NDArray[np.float32]:
    """Products of all pairs, minus infinity where labels are the same, (Q, N)."""
    scores = _products(queries, gallery)
    if queries.labels[0] <= gallery.labels[-1] and gallery.labels[0] <= queries.labels[-1]:
        scores[queries.labels[:, None] == gallery.labels] = -np.inf
    return scores


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` highest of each row, in any order; who has them all ahead ranks below `count`."""
    if 2 * count >= scores.shape[1]:  # then sorting them all is as quick
        return scores
    _in_threads(lambda rows: rows.partition(scores.shape[1] - count), scores)
    return scores[:, -count:]


def _products(queries: Embeddings, gallery: Embeddings) -> NDArray[np.float32]:
    exact = queries.vectors.astype(np.float64)
    products = np.empty((len(queries), len(gallery)), np.float32)
    for start in range(0, len(gallery), TILE):
        tile = slice(start, start + TILE)  # of the gallery: in float64 the cache holds it
        products[:, tile] = exact @ gallery.vectors[tile].T.astype(np.float64)
    return products


def _sorted(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row in ascending order; numpy sorts several times faster than torch, but alone."""
    ordered = np.array(scores, order="C")
    _in_threads(np.ndarray.sort, ordered)
    return ordered


def _in_threads(work: Callable[[NDArray], object], rows: NDArray) -> None:
    """Work on parts of the rows, in place, at the same time."""
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(work, np.array_split(rows, count)))
