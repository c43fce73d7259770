"""Candidates from FAISS's flat index, with a bound on what its float32 arithmetic may have missed.

A sum of D products in float32, in whatever order, errs by at most gamma_D |x| |y| with

    gamma_D = D u / (1 - D u),  u = 2^-24

(Higham, "Accuracy and Stability of Numerical Algorithms", 2002, equation 3.5). FAISS computes a
squared Euclidean distance as |x|^2 + |y|^2 - 2 x.y, or from the difference; either errs by at most
gamma_{D+2} (|x| + |y|)^2. In float32 an item that is not listed scores at most what the worst
listed one does; so exactly it scores at most that, plus the error. Products too small for float32
lose at most 2^-126 each. Where they may be too large, nothing is known.
"""

import logging
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.candidates import Candidates

Measure = Literal["inner_product", "cosine", "euclidean"]
SPARE = 8  # candidates beyond those asked for: ties up to so many need no second look
UNIT_ROUNDOFF = 2.0**-24  # of float32
SMALLEST = 2.0**-126  # of float32, at full precision
LARGEST = 1e38  # sums up to this do not overflow float32
SHORTEST = 1e-12  # a vector that is shorter is divided by this to be compared by cosine


class FaissFlat:
    """An engine: FAISS compares every query with the whole gallery in float32.

    Args:
        gallery: (G, D), finite.
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
        self.longest = float(self._lengths(vectors).max(initial=0))
        terms = (dimensions + 2) * UNIT_ROUNDOFF
        self.gamma = 1.001 * terms / (1 - terms)  # lengths err too, by far less
        self.lost = dimensions * SMALLEST

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """The nearest of every query (Q, D), as many for each as the deepest wants, and some more.

        Args:
            queries: (Q, D) float32, finite.
            depth: (Q,), at least 1.
        """
        vectors = self._comparable(queries)
        count = min(int(depth.max(initial=1)) + SPARE, self.index.ntotal)
        scores, rows = self.index.search(vectors, count)  # (Q, count)
        worst = scores[:, -1].astype(np.float64)
        bound = self._bound(self._lengths(vectors), worst, count == self.index.ntotal)
        query = np.repeat(np.arange(len(queries)), count)
        row = rows.ravel().astype(np.int64)
        listed = row >= 0  # FAISS lists less where scores overflow
        return Candidates(query[listed], row[listed], bound)

    def _comparable(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        given = unit(vectors) if self.measure == "cosine" else vectors
        return np.ascontiguousarray(given, dtype=np.float32)

    def _lengths(self, comparable: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.ones(len(comparable)) if self.measure == "cosine" else lengths_of(comparable)

    def _bound(
        self, lengths: NDArray[np.float64], worst: NDArray[np.float64], everything: bool
    ) -> NDArray[np.float64]:
        """What an item that is not listed scores at most, (Q,).

        Args:
            lengths: (Q,), of the queries.
            worst: (Q,), of the listed scores, as FAISS computed them.
            everything: all items are listed.
        """
        euclidean = self.measure == "euclidean"
        size = (lengths + self.longest) ** 2 if euclidean else lengths * self.longest
        error = self.gamma * size + self.lost
        if self.measure == "cosine":  # `unit` rounds lengths and quotients of both vectors
            error += 4.1 * UNIT_ROUNDOFF
        bound = -np.sqrt(np.maximum(worst - error, 0)) if euclidean else worst + error
        if everything:
            bound = np.full(len(lengths), -np.inf)
        return np.where(size < LARGEST, bound, np.inf)


def import_faiss() -> ModuleType:
    """FAISS, or an InputError that names the command to install it."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells how it was loaded
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
    return vectors / np.maximum(lengths_of(vectors), SHORTEST).astype(vectors.dtype)[:, None]


def lengths_of(vectors: NDArray) -> NDArray[np.float64]:
    """Euclidean lengths of vectors (N, D), computed in float64, (N,)."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
