"""Search by inverted lists: FAISS lists candidates, exact scores rank them.

Exact also where a filter leaves few items, or where the lists that are looked at hold too few.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.exact import pair_scores
from lookalike.retrieval.flat_search import Found, among, best, ranked
from lookalike.retrieval.inverted import FEW, REFINED, candidates

Vectors = NDArray[np.float32]


class InvertedSearch:
    """Looks at a few lists for each query.

    Args:
        index: of FAISS.
        vectors: (N, D) of length 1.
        ids: (N,), ascending.
        structure: of the generation.
    """

    def __init__(
        self, index: Any, vectors: Vectors, ids: NDArray[np.int64], structure: dict[str, Any]
    ) -> None:
        self.index = index
        self.vectors = vectors
        self.ids = ids
        self.structure = structure
        self.listed = int(np.searchsorted(ids, structure["covered"]))  # rows that the lists hold

    def nearest(
        self,
        queries: Vectors,
        k: int,
        kept: NDArray[np.bool_] | None = None,
        probes: int | None = None,
    ) -> Found:
        """Rows and cosine similarities of the nearest, (Q, min(k, M)).

        Args:
            queries: (Q, D) of length 1.
            k: of each query.
            kept: (N,), the M rows that count; by default all.
            probes: lists that are looked at; by default as the structure says.
        """
        size = len(self.ids) if kept is None else int(kept.sum())
        k = min(k, size)
        if size <= FEW or not k:
            return among(queries, self.vectors, self._rows(kept), k)
        selected = None if kept is None else self.ids[self._rows(kept)]
        listed = self._listed(queries, k, selected, probes or self.structure["probes"])
        beside = self._rows(kept, self.listed)
        found = (
            best([listed, among(queries, self.vectors, beside, k)], len(queries), k)
            if len(beside)
            else ranked(*listed, k)
        )
        if found[0].min(initial=0) < 0:
            short = np.flatnonzero((found[0] < 0).any(axis=1))
            rows = self._rows(kept)
            found[0][short], found[1][short] = among(queries[short], self.vectors, rows, k)
        return found

    def _rows(self, kept: NDArray[np.bool_] | None, first: int = 0) -> NDArray[np.int64]:
        """Those that count, from one on."""
        if kept is None:
            return np.arange(first, len(self.ids))
        return first + np.flatnonzero(kept[first:])

    def _listed(
        self, queries: Vectors, k: int, kept: NDArray[np.int64] | None, probes: int
    ) -> Found:
        """The best of FAISS's candidates by exact scores, (Q, at least k), -1 for none."""
        count = max(k * REFINED[self.structure["kind"]], k + 16)
        ids = candidates(self.index, queries, count, probes, kept)
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        there = (self.ids[rows] == ids) & (ids >= 0)
        asked = np.nonzero(there)
        scores = np.full(rows.shape, -np.inf, np.float32)
        scores[asked] = pair_scores(queries, self.vectors, asked[0], rows[asked])
        return np.where(there, rows, -1), scores
