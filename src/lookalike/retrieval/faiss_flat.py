"""Candidates from FAISS's flat index, with a bound on what its float32 arithmetic may have missed.

A sum of D products in float32, in whatever order, errs by at most gamma_D |x| |y| with

    gamma_D = D u / (1 - D u),  u = 2^-24

(Higham, "Accuracy and Stability of Numerical Algorithms", 2002, equation 3.5). FAISS computes a
squared Euclidean distance as |x|^2 + |y|^2 - 2 x.y, or from the difference; either errs by at most
gamma_{D+2} (|x| + |y|)^2. In float32 an item that is not listed scores at most what the worst
listed one does; so exactly it scores at most that, plus the error.
"""

from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.candidates import Candidates

Measure = Literal["inner_product", "cosine", "euclidean"]
SPARE = 8  # candidates beyond those asked for: ties up to so many need no second look
UNIT_ROUNDOFF = 2.0**-24  # of float32


class FaissFlat:
    """An engine: FAISS compares every query with the whole gallery in float32.

    Args:
        gallery: (G, D).
        measure: a Euclidean distance scores by its negative, so that high is near.
    """

    def __init__(self, gallery: NDArray[np.float32], measure: Measure = "inner_product") -> None:
        faiss = import_faiss()
        self.measure = measure
        vectors = self._comparable(gallery)
        dimensions = vectors.shape[1]
        kind = faiss.IndexFlatL2 if measure == "euclidean" else faiss.IndexFlatIP
        self.index: Any = kind(dimensions)
        self.index.add(vectors)
        self.longest = float(_lengths(vectors).max(initial=0))
        terms = (dimensions + 2) * UNIT_ROUNDOFF
        self.gamma = 1.001 * terms / (1 - terms)  # lengths err too, by far less

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """The nearest of every query (Q, D), as many for each as the deepest wants, and some more.

        Args:
            queries: (Q, D) float32.
            depth: (Q,), at least 1.
        """
        vectors = self._comparable(queries)
        count = min(int(depth.max(initial=1)) + SPARE, self.index.ntotal)
        scores, rows = self.index.search(vectors, count)  # (Q, count)
        everything = count == self.index.ntotal
        bound = np.full(len(queries), -np.inf) if everything else self._bound(vectors, scores)
        query = np.repeat(np.arange(len(queries)), count)
        return Candidates(query, rows.ravel().astype(np.int64), bound)

    def _comparable(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        given = unit(vectors) if self.measure == "cosine" else vectors
        return np.ascontiguousarray(given, dtype=np.float32)

    def _bound(
        self, queries: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """What an item that is not listed scores at most, (Q,)."""
        worst, lengths = scores[:, -1].astype(np.float64), _lengths(queries)
        if self.measure == "euclidean":  # squared, ascending
            error = self.gamma * (lengths + self.longest) ** 2
            return -np.sqrt(np.maximum(worst - error, 0))
        error = self.gamma * lengths * self.longest
        if self.measure == "cosine":  # both vectors were rounded to float32 at length 1
            error += 2.01 * UNIT_ROUNDOFF
        return worst + error


def import_faiss() -> ModuleType:
    """FAISS, or an InputError that names the command to install it."""
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            'searching needs FAISS: pip install "lookalike[cpu]", or "lookalike[gpu]" for an '
            "NVIDIA GPU (never both)"
        ) from error
    return faiss


def unit(vectors: NDArray) -> NDArray:
    """The vectors (N, D), at length 1 and of their own dtype; zero vectors stay zero."""
    precise = vectors.astype(np.float64, copy=False)
    return (precise / np.maximum(_lengths(vectors)[:, None], 1e-12)).astype(vectors.dtype)


def _lengths(vectors: NDArray) -> NDArray[np.float64]:
    return np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)
