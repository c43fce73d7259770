"""Ranks: at which places of a query's ranking its relevant items lie, exactly; ties count against.

All retrieval metrics are functions of these. A score is a cosine computed in float64 and rounded
to float32, so that equal vectors get equal scores wherever they lie, and the order of the gallery
plays no part. The rank of a relevant item is one more than the number of relevant items before it
plus the number of irrelevant ones that score as high or higher.

Ranks down to a `depth` come from an engine's candidates, whole ranks from counting: a leave-one-out
evaluation then computes every product once for both of its queries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.retrieval.candidates import Candidates, Engine
from lookalike.retrieval.counting import PLACES, Relevant
from lookalike.retrieval.embeddings import Embeddings, count_relevant
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.exact import pair_scores
from lookalike.retrieval.faiss_flat import UNIT_ROUNDOFF, lengths_of
from lookalike.retrieval.order import ascending, descending
from lookalike.retrieval.products import products_of, tensor_of
from lookalike.retrieval.relevance import ByLabel, Judged, Relevance

TILE = 2048  # queries and gallery items of a product that serves both
BLOCK = 2**25  # products at once: 128 MiB
PAIRS = 2**22  # pairs that are kept at once
DEEPEST = 1 / 64  # of the gallery; queries that need more are quicker ranked whole,
SHALLOW = 128  # but not those that need less than this


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
        return place_in_query(self.query, len(self.n_relevant))

    def total(self, value: NDArray) -> NDArray[np.float64]:
        """The sum of a value over each query's relevant items, (P,) -> (Q,)."""
        return np.bincount(self.query, value, minlength=len(self.n_relevant)).astype(np.float64)


def rank_relevant(
    queries: Embeddings,
    gallery: Embeddings,
    depth: NDArray[np.int64] | None = None,
    engines: Engines | None = None,
    judged: Judged | None = None,
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Blocks of queries, as row numbers, with the ranks of their relevant items.

    Args:
        queries: gallery items with a query's own exclusion id are left out of its ranking.
        gallery: an exact copy of a query under another id counts.
        depth: (Q,) ranks that are of interest; None for all.
        engines: that list candidates; by default one is chosen, on the CPU.
        judged: what is relevant and what is left out, in place of labels and exclusion ids.
    """
    engines = engines or Engines()
    relevance = judged or ByLabel.of(queries, gallery)
    if _equal(queries, gallery):
        queries = gallery
    rows = np.arange(len(queries))
    if depth is None:
        engines.say_whole()
    elif len(gallery):
        shallow = rows[depth < max(SHALLOW, len(gallery) * DEEPEST)]
        engine = engines.of(gallery.vectors)
        done = np.zeros(len(queries), bool)
        for block in _groups(shallow, depth[shallow]):
            found = _near(queries, gallery, block, depth, engine, relevance)
            done[found[0]] = True
            yield found
        rows = rows[~done]
    yield from _whole(queries, gallery, rows, engines.device, judged)


def place_in_query(query: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """From 1 on, (P,), for P items ordered by query, of `count` queries."""
    counts = np.bincount(query, minlength=count)
    return np.arange(1, len(query) + 1) - (np.cumsum(counts) - counts)[query]


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
    relevance: Relevance,
) -> tuple[NDArray[np.int64], Ranks]:
    """Those of the rows of which no rank down to the depth can be missing, and these ranks."""
    alone = len(rows) < len(gallery) or queries is not gallery
    asked = queries[rows] if alone else gallery
    relevance = relevance.at(rows)
    listed = engine.candidates(asked.vectors, depth[rows] + relevance.left_out())
    ranked, relevant = relevance.of_pairs(listed.query, listed.row)
    ranked &= listed.bound[listed.query] < np.inf
    order = _by_exact_scores if listed.score is None else _by_their_scores
    listed, relevant = listed.only(ranked), relevant[ranked]
    query, relevant, scores = order(asked, gallery, listed, relevant)
    complete = listed.proven(_at_depth(query, scores, depth[rows]))
    rank = place_in_query(query, len(rows))
    kept = relevant & (rank <= depth[rows][query]) & complete[query]
    number = np.cumsum(complete) - 1
    return rows[complete], Ranks(number[query[kept]], rank[kept], relevance.count()[complete])


# Candidates in order, (P,) each: the query, whether it is relevant, the least score that it has
_Ordered = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]


def _by_exact_scores(
    asked: Embeddings, gallery: Embeddings, listed: Candidates, relevant: NDArray[np.bool_]
) -> _Ordered:
    query, row = listed.query, listed.row
    keys = query.astype(np.uint64) << np.uint64(33)
    keys |= descending(pair_scores(asked.vectors, gallery.vectors, query, row)) << np.uint64(1)
    keys |= relevant.astype(np.uint64)  # irrelevant ones first
    keys.sort()
    query = (keys >> np.uint64(33)).astype(np.int64)
    scores = ascending((keys >> np.uint64(1)) & np.uint64(2**32 - 1))
    return query, (keys & np.uint64(1)).astype(bool), scores


def _by_their_scores(
    asked: Embeddings, gallery: Embeddings, listed: Candidates, relevant: NDArray[np.bool_]
) -> _Ordered:
    """By the engine's scores; where these are closer than they err, by exact ones.

    Places whose scores are too close to be in a certain order are a run. Only runs that hold both
    relevant and irrelevant items matter.
    """
    assert listed.score is not None
    assert listed.error is not None
    query, row, score = listed.query, listed.row, listed.score
    error = listed.error[query]
    least = (score - error).astype(np.float32)
    most = (score + error).astype(np.float32)
    close = (query[1:] == query[:-1]) & ~(least[:-1] > most[1:])
    run = np.concatenate([[0], np.cumsum(~close)])[: len(query)]
    hits = np.bincount(run, relevant)
    mixed = (hits > 0) & (hits < np.bincount(run))
    unsure = np.flatnonzero(mixed[run])
    exact = pair_scores(asked.vectors, gallery.vectors, query[unsure], row[unsure])
    keys = run[unsure].astype(np.uint64) << np.uint64(33)
    keys |= descending(exact) << np.uint64(1)
    keys |= relevant[unsure].astype(np.uint64)  # irrelevant ones first
    keys.sort()
    relevant[unsure] = (keys & np.uint64(1)).astype(bool)
    return query, relevant, least


def _at_depth(
    query: NDArray[np.int64], scores: NDArray[np.float32], depth: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score at a depth of every query, (Q,), minus infinity where fewer are listed.

    Args:
        query: (P,), ascending.
        scores: (P,), descending for each query.
        depth: (Q,), at least 1.
    """
    end = np.cumsum(np.bincount(query, minlength=len(depth)))
    place = np.concatenate([[0], end[:-1]]) + depth - 1
    listed = place < end
    found = np.full(len(depth), -np.inf, np.float32)
    found[listed] = scores[place[listed]]
    return found


def _whole(
    queries: Embeddings,
    gallery: Embeddings,
    rows: NDArray[np.int64],
    device: torch.device,
    judged: Judged | None = None,
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """All ranks of the rows, by counting, from products on a device."""
    if not len(rows) or not len(gallery):
        return
    everyone = judged is None and queries is gallery and len(rows) == len(gallery)
    rows = rows[np.argsort(queries.labels[rows], kind="stable")]
    asked = queries[rows]
    error = _error(asked, gallery)
    relevant = count_relevant(asked, gallery) if judged is None else judged.at(rows).count()
    most = int(relevant.max())
    if everyone and _padded(relevant) <= 8 * PAIRS and most <= TILE / 8:
        own = [(rows[part], asked[part]) for part in _parts(len(rows), TILE)]
        yield from _count_both_ways(own, asked, error, device)
        return
    by_label = np.argsort(gallery.labels, kind="stable")
    items = [(part, gallery[part]) for part in _parts(len(gallery), PLACES)]
    for part in _parts(len(rows), min(TILE, BLOCK // max(most, len(items[0][1])))):
        if judged is None:
            block = Relevant.of(rows[part], asked[part], gallery, by_label, error)
        else:
            some = judged.at(rows[part])
            block = Relevant.judged(rows[part], asked[part], gallery, some, error)
        for place, tile in items:
            products = _products(block.queries, tile, device)
            block.leave_out(products, place.start)
            block.count(products, place.start)
        yield block.rows, _ranks(block)


def _parts(length: int, step: int) -> list[slice]:
    return [slice(start, start + max(1, step)) for start in range(0, length, max(1, step))]


def _padded(counts: NDArray[np.int64]) -> int:
    """How many scores the blocks of all queries hold."""
    return sum(int(counts[s : s + TILE].max()) * TILE for s in range(0, len(counts), TILE))


def _count_both_ways(
    parts: Sequence[tuple[NDArray[np.int64], Embeddings]],
    everyone: Embeddings,
    error: float,
    device: torch.device,
) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
    """Queries that are the gallery: a tile of products serves its rows and its columns.

    Args:
        parts: rows and embeddings of the queries, tile by tile.
        everyone: all of them, ordered by label.
        error: by which a product differs from the exact score, at most.
        device: where products are computed.
    """
    in_order = np.arange(len(everyone))
    blocks = [Relevant.of(rows, part, everyone, in_order, error) for rows, part in parts]
    for number, block in enumerate(blocks):
        for place, other in enumerate(blocks[number:], number):
            products = _products(block.queries, other.queries, device)
            block.leave_out(products, place * TILE)
            block.count(products, place * TILE)
            if other is not block:
                other.count(products, number * TILE, across=True)
        yield block.rows, _ranks(block)


def _products(queries: Embeddings, items: Embeddings, device: torch.device) -> Tensor:
    """Of all pairs, (Q, N) float32."""
    return products_of(tensor_of(queries.vectors).to(device), tensor_of(items.vectors).to(device))


def _error(queries: Embeddings, gallery: Embeddings) -> float:
    """The most by which a float32 product of D numbers differs from the exact one.

    Adding D products up errs by at most gamma_D |x| |y|, as in `faiss_flat`; the exact score is
    rounded to float32.
    """
    longest = [float(lengths_of(each.vectors).max()) for each in (queries, gallery)]
    return (queries.vectors.shape[1] + 8) * UNIT_ROUNDOFF * 1.001**2 * longest[0] * longest[1]


def _ranks(block: Relevant) -> Ranks:
    query, rank = block.ranks()
    return Ranks(query, rank, np.bincount(query, minlength=len(block.rows)))
