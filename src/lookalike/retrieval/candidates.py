"""Candidates: the one step that every search begins with, whatever finds them.

An engine lists, for every query, gallery items that can be among its nearest, and proves what it
left out: no missing item scores above `bound`. The ranking is then made from exact scores of the
listed items (`retrieval.exact`). A query whose last place is not above its bound is compared with
the whole gallery. So every engine gives the same ranking to the last digit.
"""

from dataclasses import dataclass
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
    """

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    bound: NDArray[np.float64]


class Engine(Protocol):
    """Lists what can be among the `depth` nearest of every query, ties with the last included."""

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """Args: queries (Q, D); depth (Q,), how many of the nearest are wanted."""
        ...
