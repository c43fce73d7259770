"""Candidates from half the bits: all gallery items that can be among the nearest of a query.

Products of vectors rounded to bfloat16 cost a third of float32 where the processor has them, and
their error is bounded. With x' for the rounded x (Cauchy and Schwarz),

    |x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|,

where |x - x'| is measured, not estimated, and adding D products up in float32 errs by at most
D 2^-23 |x'| |y'|. A query's floor is a score that about `depth` items reach, guessed from a sample
of the gallery. All that reaches the floor is listed; the list itself then tells whether the guess
was low enough, so that nothing is left to chance but the time it takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.compatibility import cpu_multiplies_bfloat16
from lookalike.retrieval.candidates import Candidates

ROWS, COLUMNS = 2048, 4096  # of a tile of products: 16 MiB in bfloat16
SHARE = 16  # one gallery item in so many is sampled
ROW_BITS = np.uint64(24)  # of a key: query 24, score 16, gallery row 24
SCORE_BITS = np.uint64(16)
QUERY_BITS = np.uint64(40)  # below the query
LARGEST = 2**24 - 1  # queries or gallery items that a key has room for
END = np.array([2**64 - 1], np.uint64)  # behind all keys, so that there is always one


class Bounded:
    """An engine: products of rounded vectors, whose error is bounded.

    Args:
        gallery: (N, D), of length 1 or near it.
    """

    def __init__(self, gallery: NDArray[np.float32]) -> None:
        self.gallery = gallery
        self.rounded = _Rounded.of(gallery)

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """All pairs that can be among the `depth` nearest of a query, ties with the last included.

        A query for which that is not proven has no pairs, and an infinite bound.

        Args:
            queries: (Q, D); if it is the gallery's very array, each product serves two queries.
            depth: (Q,) how many of the nearest are wanted, the query itself counted.
        """
        second = self.rounded
        first = second if queries is self.gallery else _Rounded.of(queries)
        error = first.error_with(second)
        floor = _guess_floor(first.vectors, second.vectors, depth, error)
        keys = np.concatenate([END, *_reach(first, second, floor)])
        keys.sort()
        start = np.searchsorted(keys, np.arange(len(queries) + 1, dtype=np.uint64) << QUERY_BITS)
        last = start[:-1] + depth - 1  # where the depth-th of a query stands
        enough = last < start[1:]
        needed = _lowered(_scores_of(keys[np.where(enough, last, 0)]), error)
        complete = enough & (needed >= floor)
        keys = keys[:-1]
        query = (keys >> QUERY_BITS).astype(np.int64)
        kept = complete[query] & (_scores_of(keys) >= needed[query])
        bound = np.where(complete, -np.inf, np.inf)
        return Candidates(query[kept], _rows_of(keys[kept]), bound)


@dataclass(frozen=True, eq=False)
class _Rounded:
    """Vectors in the narrowest format that the processor multiplies.

    vectors: (N, D), bfloat16 or float32.
    norm: the largest of the exact vectors, rounded up.
    residual: the largest norm of what rounding took away, rounded up.
    """

    vectors: Tensor
    norm: float
    residual: float

    @classmethod
    def of(cls, exact: NDArray[np.float32]) -> "_Rounded":
        low = torch.from_numpy(exact).to(_narrowest())
        parts = [
            (part.norm(dim=1).max(), (part - rounded.float()).norm(dim=1).max())
            for part, rounded in zip(
                torch.from_numpy(exact).split(ROWS), low.split(ROWS), strict=True
            )
        ]
        norm, residual = torch.tensor(parts).amax(dim=0).tolist()
        return cls(low, norm * 1.001, residual * 1.001)  # norms in float32 err by far less

    def error_with(self, other: "_Rounded") -> float:
        """The largest difference between a product of rounded vectors and the exact one."""
        mine, theirs = self.norm + self.residual, other.norm + other.residual
        adding_up = (self.vectors.shape[1] + 8) * 2.0**-23 * mine * theirs
        return self.residual * other.norm + mine * other.residual + adding_up


def _narrowest() -> torch.dtype:
    """bfloat16 only where the processor multiplies it, otherwise float32."""
    return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32


def _guess_floor(
    queries: Tensor, gallery: Tensor, depth: NDArray[np.int64], error: float
) -> NDArray[np.float32]:
    """A score for every query that its `depth`-th nearest probably reaches, (Q,).

    Infinite, so that nothing is listed, where too much of the sample is that close.
    """
    count = len(gallery) // SHARE
    sample = gallery[np.random.default_rng(0).choice(len(gallery), count, replace=False)]
    expected = depth / SHARE
    place = np.minimum(np.ceil(expected + 3 * np.sqrt(expected)).astype(np.int64) + 1, count)
    floors = []
    for begin in range(0, len(queries), ROWS):
        wanted = torch.from_numpy(place[begin : begin + ROWS, None])
        products = (queries[begin : begin + ROWS] @ sample.T).float()
        nearest = products.topk(int(wanted.max()), dim=1).values.gather(1, wanted - 1)
        floor = torch.from_numpy(_lowered(nearest.numpy(), error))
        crowded = (products >= floor).sum(dim=1, keepdim=True) > 4 * wanted + 16
        floors.append(torch.where(crowded | (floor <= 0), torch.inf, floor)[:, 0].numpy())
    return np.concatenate(floors)


def _lowered(score: NDArray[np.float32], error: float) -> NDArray[np.float32]:
    """The least product, rounded or not, of an item that is exactly as near as one of this product.

    It is rounded down to bfloat16: what is compared with it may be bfloat16 or float32.
    """
    lowest = score - np.abs(score) * np.float32(2**-8) - np.float32(2 * error)
    bits = lowest.view(np.uint32)
    away_from_zero = np.where(lowest < 0, bits + np.uint32(0xFFFF), bits)
    return (away_from_zero & np.uint32(0xFFFF0000)).view(np.float32)


def _reach(
    queries: _Rounded, gallery: _Rounded, floor: NDArray[np.float32]
) -> Iterator[NDArray[np.uint64]]:
    """Keys of all pairs whose product reaches the query's floor, tile by tile."""
    symmetric = queries is gallery
    bounds = _bits(torch.from_numpy(floor).to(gallery.vectors.dtype))
    for top in range(0, len(floor), ROWS):
        rows = queries.vectors[top : top + ROWS]
        for left in range(top if symmetric else 0, len(gallery.vectors), COLUMNS):
            products = rows @ gallery.vectors[left : left + COLUMNS].T
            bits = _bits(products)
            row, column = _where(bits >= bounds[top : top + ROWS, None])
            yield _keys(top + row, products[row, column], left + column)
            if symmetric:  # what lies below the diagonal is above it too
                row, column = _where(bits >= bounds[None, left : left + COLUMNS])
                below = left + column >= top + ROWS
                row, column = row[below], column[below]
                yield _keys(left + column, products[row, column], top + row)


def _bits(scores: Tensor) -> NDArray[np.signedinteger]:
    """The bits of floats as integers: in the same order where one of the two is positive."""
    return scores.view(torch.int16 if scores.dtype == torch.bfloat16 else torch.int32).numpy()


def _where(reached: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    place = np.flatnonzero(reached)  # many times faster than np.nonzero of two dimensions
    return np.divmod(place, reached.shape[1])


def _keys(query: NDArray[np.int64], score: Tensor, row: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One integer a pair that sorts by query, then score descending."""
    ascending = score.bfloat16().view(torch.int16).numpy().astype(np.uint64)  # all are positive
    keys = query.astype(np.uint64) << SCORE_BITS
    keys |= np.uint64(2**16 - 1) - ascending
    return (keys << ROW_BITS) | row.astype(np.uint64)


def _scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    bits = (np.uint64(2**16 - 1) - (keys >> ROW_BITS)).astype(np.uint16)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _rows_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (keys & np.uint64(LARGEST)).astype(np.int64)
