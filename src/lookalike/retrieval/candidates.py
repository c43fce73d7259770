"""Candidates: the one step that every search begins with, whatever finds them.

An engine lists, for every query, gallery items that can be among its nearest, and proves what it
left out: no missing item scores above `bound`. The ranking is then made from exact scores of the
listed items (`retrieval.exact`), or from the engine's own where these differ by more than their
error. A query whose last place is not above its bound is compared with the whole gallery. So every
engine gives the same ranking to the last digit.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Candidates:
    """P pairs of a query and a gallery item, ordered by query.

    query: (P,) int64.
    row: (P,) int64, of the gallery.
    bound: (Q,) float64; no missing item has a higher exact score. Minus infinity: none that
        matters is missing; plus infinity: nothing is known.
    score: (P,) float32, descending for each query, as the engine computed them; None where they
        are too coarse to rank by.
    error: (Q,) float64, by which these differ from the exact scores at most.
    """

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    bound: NDArray[np.float64]
    score: NDArray[np.float32] | None = None
    error: NDArray[np.float64] | None = None

    def only(self, kept: NDArray[np.bool_]) -> "Candidates":
        """Some of the pairs, by a mask (P,)."""
        score = None if self.score is None else self.score[kept]
        return replace(self, query=self.query[kept], row=self.row[kept], score=score)

    def proven(self, last: NDArray[np.floating]) -> NDArray[np.bool_]:
        """For which queries no missing item scores as high as the last place that is wanted, (Q,).

        Args:
            last: (Q,), the least exact score of that place; minus infinity where too few are
                listed.
        """
        return np.isneginf(self.bound) | (last > self.bound.astype(np.float32))

    def table(self, values: NDArray, fill: float, width: int) -> NDArray:
        """Values of the pairs (P,), one row for each query: (Q, `width` or more).

        Args:
            values: of the pairs.
            fill: stands behind the values of queries that have fewer than others.
            width: the least.
        """
        counts = np.bincount(self.query, minlength=len(self.bound))
        width = max(width, int(counts.max(initial=0)))
        if (counts == width).all():
            return values.reshape(len(counts), width)
        table = np.full((len(counts), width), fill, values.dtype)
        table[np.arange(width) < counts[:, None]] = values
        return table


class Engine(Protocol):
    """Lists what can be among the `depth` nearest of every query, ties with the last included."""

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """The candidates of every query.

        Args:
            queries: (Q, D) float32.
            depth: (Q,) how many of the nearest are wanted, at least 1.
        """
        ...
