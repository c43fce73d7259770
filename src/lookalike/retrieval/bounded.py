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
from lookalike.device import CPU
from lookalike.retrieval.candidates import Candidates
from lookalike.retrieval.products import flat_nonzero, products_of, tensor_of

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
        gallery: (N, D), of length 1 or near it; it may lie in a mapped file.
        device: where products are computed, the CPU or a CUDA device.
    """

    def __init__(self, gallery: NDArray[np.float32], device: torch.device = CPU) -> None:
        self.gallery = gallery
        self.device = device
        self.dtype = _narrowest(device)
        self.extent = _Extent.of(gallery, self.dtype)
        count = -(-len(gallery) // SHARE)
        sampled = np.random.default_rng(0).choice(len(gallery), count, replace=False)
        self.sample = self._rounded(gallery[np.sort(sampled)])

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """All pairs that can be among the `depth` nearest of a query, ties with the last included.

        A query for which that is not proven has no pairs, and an infinite bound.

        Args:
            queries: (Q, D); if it is the gallery's very array, each product serves two queries.
            depth: (Q,) how many of the nearest are wanted, the query itself counted.
        """
        symmetric = queries is self.gallery
        extent = self.extent if symmetric else _Extent.of(queries, self.dtype)
        error = extent.error_with(self.extent, queries.shape[1])
        rounded = self._rounded(queries)
        floor = _guess_floor(rounded, self.sample, depth, error)
        reached = self._reach_symmetric if symmetric else self._reach
        keys = np.concatenate([END, *reached(rounded, floor)])
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

    def _rounded(self, vectors: NDArray[np.float32]) -> Tensor:
        return tensor_of(vectors).to(self.device, self.dtype)

    def _reach(self, queries: Tensor, floor: NDArray[np.float32]) -> Iterator[NDArray[np.uint64]]:
        """Keys of all pairs whose product reaches the query's floor; the gallery is read once."""
        limit = torch.from_numpy(floor).to(self.device, self.dtype)
        for left in range(0, len(self.gallery), COLUMNS):
            items = self._rounded(self.gallery[left : left + COLUMNS])
            for top in range(0, len(floor), ROWS):
                products = products_of(queries[top : top + ROWS], items)
                row, column, score = _reaching(products, limit[top : top + ROWS, None])
                yield _keys(top + row, score, left + column)

    def _reach_symmetric(
        self, vectors: Tensor, floor: NDArray[np.float32]
    ) -> Iterator[NDArray[np.uint64]]:
        """The same where the queries are the gallery: what lies below the diagonal is above it."""
        limit = torch.from_numpy(floor).to(self.device, self.dtype)
        for top in range(0, len(floor), ROWS):
            rows = vectors[top : top + ROWS]
            for left in range(top, len(vectors), COLUMNS):
                products = products_of(rows, vectors[left : left + COLUMNS])
                row, column, score = _reaching(products, limit[top : top + ROWS, None])
                yield _keys(top + row, score, left + column)
                row, column, score = _reaching(products, limit[None, left : left + COLUMNS])
                below = np.flatnonzero(left + column >= top + ROWS)
                yield _keys(left + column[below], score[below], top + row[below])


@dataclass(frozen=True)
class _Extent:
    """How long vectors are, and what rounding takes away from them.

    norm: the largest of the exact vectors, rounded up.
    residual: the largest norm of what rounding took away, rounded up.
    """

    norm: float
    residual: float

    @classmethod
    def of(cls, exact: NDArray[np.float32], dtype: torch.dtype) -> "_Extent":
        norm = residual = 0.0  # numbers: small tensors would keep freed large blocks apart
        for part in tensor_of(exact).split(ROWS):
            lost = part - part.to(dtype).float()
            norm = max(norm, part.norm(dim=1).max().item())
            residual = max(residual, lost.norm(dim=1).max().item())
        return cls(norm * 1.001, residual * 1.001)  # norms in float32 err by far less

    def error_with(self, other: "_Extent", size: int) -> float:
        """The largest difference between a product of rounded vectors and the exact one.

        Args:
            other: of the other vectors.
            size: D.
        """
        mine, theirs = self.norm + self.residual, other.norm + other.residual
        adding_up = (size + 8) * 2.0**-23 * mine * theirs
        return self.residual * other.norm + mine * other.residual + adding_up


def _narrowest(device: torch.device) -> torch.dtype:
    """bfloat16 only where the device multiplies it, otherwise float32."""
    if device.type == "cuda":
        multiplies = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        multiplies = cpu_multiplies_bfloat16()
    return torch.bfloat16 if multiplies else torch.float32


def _guess_floor(
    queries: Tensor, sample: Tensor, depth: NDArray[np.int64], error: float
) -> NDArray[np.float32]:
    """A score for every query that its `depth`-th nearest probably reaches, (Q,).

    Infinite, so that nothing is listed, where too much of the sample is that close.
    """
    expected = depth / SHARE
    place = np.minimum(np.ceil(expected + 3 * np.sqrt(expected)).astype(np.int64) + 1, len(sample))
    floors = []
    step = max(1, min(ROWS, ROWS * COLUMNS // max(1, len(sample))))
    for begin in range(0, len(queries), step):
        wanted = torch.from_numpy(place[begin : begin + step, None]).to(queries.device)
        products = products_of(queries[begin : begin + step], sample).float()
        nearest = products.topk(int(wanted.max()), dim=1).values.gather(1, wanted - 1)
        floor = torch.from_numpy(_lowered(nearest.cpu().numpy(), error)).to(queries.device)
        crowded = (products >= floor).sum(dim=1, keepdim=True) > 4 * wanted + 16
        guessed = torch.where(crowded | (floor <= 0), torch.inf, floor)
        floors.append(guessed[:, 0].cpu().numpy())
    return np.concatenate(floors)


def _lowered(score: NDArray[np.float32], error: float) -> NDArray[np.float32]:
    """The least product, rounded or not, of an item that is exactly as near as one of this product.

    It is rounded down to bfloat16: what is compared with it may be bfloat16 or float32.
    """
    lowest = score - np.abs(score) * np.float32(2**-8) - np.float32(2 * error)
    bits = lowest.view(np.uint32)
    away_from_zero = np.where(lowest < 0, bits + np.uint32(0xFFFF), bits)
    return (away_from_zero & np.uint32(0xFFFF0000)).view(np.float32)


def _reaching(
    products: Tensor, limit: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64], Tensor]:
    """Rows, columns and values of the products that reach their limit, on the CPU.

    Args:
        products: (B, C).
        limit: (B, 1) or (1, C), positive.
    """
    on_cpu = products.device.type == "cpu"  # where integers compare faster than bfloat16
    reached = _bits(products) >= _bits(limit) if on_cpu else products >= limit
    found = flat_nonzero(reached)
    row, column = np.divmod(found.cpu().numpy(), products.shape[1])
    return row, column, products.flatten()[found].cpu()


def _bits(scores: Tensor) -> Tensor:
    """The bits of floats as integers: in the same order where one of the two is positive."""
    return scores.view(torch.int16 if scores.dtype == torch.bfloat16 else torch.int32)


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
