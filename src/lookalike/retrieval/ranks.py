"""Ranks: at which places of a query's ranking its relevant items lie, exactly; ties count against.

All retrieval metrics are functions of these. A score is a cosine computed in float64 and rounded
to float32, so that equal vectors get equal scores wherever they lie, and the order of the gallery
plays no part. The rank of a relevant item is one more than the number of relevant items before it
plus the number of irrelevant ones that score as high or higher.

Ranks down to a `depth` come from candidates, whole ranks from counting: a leave-one-out evaluation
then computes every product once for both of its queries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.retrieval.bounded import LARGEST, Bounded
from lookalike.retrieval.candidates import Engine
from lookalike.retrieval.counting import PLACES, RELEVANT, Relevant
from lookalike.retrieval.embeddings import Embeddings, count_relevant, largest_exclusion
from lookalike.retrieval.exact import pair_scores
from lookalike.retrieval.order import ascending, descending

TILE = 2048  # queries and gallery items of a product that serves both
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
    yield from _whole(queries, gallery, rows)


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


def _whole(
    queries: Embeddings, gallery: Embeddings, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """All ranks of the rows, by counting. Whatever has the same label lies together."""
    if not len(rows) or not len(gallery):
        return
    everyone = queries is gallery and len(rows) == len(gallery)
    gallery = gallery[np.argsort(gallery.labels, kind="stable")]
    rows = rows[np.argsort(queries.labels[rows], kind="stable")]
    asked = queries[rows]
    error = _error(asked, gallery)
    relevant = count_relevant(asked, gallery)
    most = int(relevant.max())
    if everyone and _padded(relevant) <= 8 * PAIRS and most <= TILE / 8:
        own = [(rows[part], gallery[part]) for part in _parts(len(rows), TILE)]
        yield from _count_both_ways(own, gallery, error)
        return
    items = [gallery[part] for part in _parts(len(gallery), PLACES)]
    for part in _parts(len(rows), min(TILE, BLOCK // max(most, len(items[0])))):
        block = Relevant.of(rows[part], asked[part], gallery, error)
        for tile in items:
            block.count(_products(asked[part], tile), tile)
        yield block.rows, _ranks(block)


def _parts(length: int, step: int) -> list[slice]:
    return [slice(start, start + max(1, step)) for start in range(0, length, max(1, step))]


def _padded(counts: NDArray[np.int64]) -> int:
    """How many scores the blocks of all queries hold."""
    return sum(int(counts[s : s + TILE].max()) * TILE for s in range(0, len(counts), TILE))


def _count_both_ways(
    parts: Sequence[tuple[NDArray[np.int64], Embeddings]], gallery: Embeddings, error: float
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Queries that are the gallery: a tile of products serves its rows and its columns."""
    blocks = [Relevant.of(rows, part, gallery, error) for rows, part in parts]
    for number, block in enumerate(blocks):
        for other in blocks[number:]:
            products = _products(block.queries, other.queries)
            block.count(products, other.queries)
            if other is not block:
                other.count(products, block.queries, across=True)
        yield block.rows, _ranks(block)


def _products(queries: Embeddings, items: Embeddings) -> Tensor:
    """Of all pairs, minus infinity where labels are the same, (Q, N) float32."""
    products = torch.from_numpy(queries.vectors) @ torch.from_numpy(items.vectors).T
    if queries.labels[0] <= items.labels[-1] and items.labels[0] <= queries.labels[-1]:
        same = queries.labels[:, None] == items.labels
        products[torch.from_numpy(same)] = RELEVANT
    return products


def _error(queries: Embeddings, gallery: Embeddings) -> float:
    """The most by which a float32 product of D numbers differs from the exact one.

    Adding D products up errs by at most D 2^-23 |x| |y|; the exact score is rounded to float32.
    """
    longest = [float(np.linalg.norm(each.vectors, axis=1).max()) for each in (queries, gallery)]
    return (queries.vectors.shape[1] + 8) * 2.0**-23 * 1.001**2 * longest[0] * longest[1]


def _ranks(block: Relevant) -> Ranks:
    query, place = np.nonzero(np.isfinite(block.scores))
    n_relevant = np.bincount(query, minlength=len(block.rows))
    return Ranks(query, place + 1 + block.ahead[query, place], n_relevant)
