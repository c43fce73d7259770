"""Probing: candidates from the cells of inverted lists that are nearest to a query, by FAISS.

Their scores are of float32. Those of IVF are so from the beginning; of IVF-PQ's candidates, which
codes have chosen, they are computed here.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.faiss_flat import SPARE, import_faiss
from lookalike.retrieval.inverted import CODED

Vectors = NDArray[np.float32]


class Probing:
    """Lists the rows that may be among the nearest.

    Args:
        index: inverted lists of FAISS.
        vectors: (N, D) of length 1.
        ids: (N,), ascending, by which the lists know the vectors.
        coded: the lists hold codes.
    """

    def __init__(self, index: Any, vectors: Vectors, ids: NDArray[np.int64], coded: bool) -> None:
        self.index = index
        self.vectors = vectors
        self.ids = ids
        self.coded = coded
        self._are_rows = len(ids) > 0 and int(ids[-1]) == len(ids) - 1  # nothing was removed
        self._of_probes = cache(self._parameters)

    def candidates(
        self, queries: Vectors, k: int, probes: int, kept: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Rows (Q, k and some more) with the highest scores in float32, -1 for none.

        Args:
            queries: (Q, D) of length 1.
            k: of each query.
            probes: cells that a query looks at.
            kept: rows that count, ascending; by default all.
        """
        queries = np.ascontiguousarray(queries)
        parameters = self._of_probes(probes)
        if kept is not None:
            parameters, selector = self._parameters(probes), _selector(self.ids[kept])
            parameters.sel = selector
        count = (CODED * k if self.coded else k) + SPARE
        # faiss.contrib.torch_utils, which other packages import, puts its own in search's place
        search = getattr(self.index, "search_numpy", self.index.search)
        rows = self._rows(search(queries, count, params=parameters)[1])
        return self._highest(queries, rows, k + SPARE) if self.coded else rows

    def _parameters(self, probes: int) -> Any:
        return import_faiss().SearchParametersIVF(nprobe=min(probes, self.index.nlist))

    def _rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._are_rows:
            return ids
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[rows] == ids, rows, -1)

    def _highest(self, queries: Vectors, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Of rows (Q, W) the `count` with the highest scores."""
        faiss = import_faiss()
        scores = np.empty(rows.shape, np.float32)
        pointers = map(faiss.swig_ptr, (scores, queries, self.vectors, rows))
        faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
        scores[rows < 0] = -np.inf
        chosen = np.argpartition(scores, -count, axis=1)[:, -count:]
        return rows[np.arange(len(rows))[:, None], chosen]


def _selector(ids: NDArray[np.int64]) -> Any:
    """Lets FAISS pass over all but these ids."""
    bits = np.zeros(int(ids.max(initial=0)) + 1, bool)
    bits[ids] = True
    return import_faiss().IDSelectorBitmap(np.packbits(bits, bitorder="little"))
