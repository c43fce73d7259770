"""Candidates from FAISS, with a bound on what its float32 arithmetic may have missed.

A sum of D products in float32, in whatever order, errs by at most gamma_D |x| |y| with

    gamma_D = D u / (1 - D u),  u = 2^-24

(Higham, "Accuracy and Stability of Numerical Algorithms", 2002, equation 3.5). FAISS computes a
squared Euclidean distance as |x|^2 + |y|^2 - 2 x.y, or from the difference; either errs by at most
gamma_{D+2} (|x| + |y|)^2. In float32 an item that is not listed scores at most what the worst
listed one does; so exactly it scores at most that, plus the error. Products too small for float32
lose at most 2^-126 each. Where they may be too large, nothing is known.

On the CPU FAISS reads the gallery where it lies, also from a mapped file; a GPU gets a copy.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.compatibility import faiss_module
from lookalike.errors import InputError
from lookalike.retrieval.candidates import Candidates

Measure = Literal["inner_product", "cosine", "euclidean"]
SPARE = 4  # candidates beyond those asked for: ties up to so many need no second look
UNIT_ROUNDOFF = 2.0**-24  # of float32
SMALLEST = 2.0**-126  # of float32, at full precision
LARGEST = 1e38  # sums up to this do not overflow float32
SHORTEST = 1e-12  # a vector that is shorter is divided by this to be compared by cosine
DEEPEST_ON_GPU = 2048  # FAISS's kernels select no more

# (queries (Q, D), count) -> scores (Q, count) of the nearest, and rows (Q, count)
_Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]


class FaissFlat:
    """An engine: FAISS compares every query with the whole gallery in float32.

    Args:
        gallery: (G, D), finite.
        measure: a Euclidean distance scores by its negative, so that high is near.
        gpus: numbers of those that share the gallery; none for the CPU.
        longest: length of its vectors at most, where it is known; otherwise all are measured.
    """

    def __init__(
        self,
        gallery: NDArray[np.float32],
        measure: Measure = "inner_product",
        gpus: Sequence[int] = (),
        longest: float | None = None,
    ) -> None:
        self.gallery = gallery
        self.measure = measure
        vectors = self._comparable(gallery)
        self.size, dimensions = vectors.shape
        self.deepest = DEEPEST_ON_GPU if gpus else self.size
        self._search = _on_gpus(vectors, measure, gpus) if gpus else _on_cpu(vectors, measure)
        self.lengths: NDArray[np.float64] | None = None
        if longest is None:
            self.lengths = self._lengths(vectors)
            longest = float(self.lengths.max(initial=0))
        self.longest = longest
        terms = (dimensions + 2) * UNIT_ROUNDOFF
        self.gamma = 1.001 * terms / (1 - terms)  # lengths err too, by far less
        self.lost = dimensions * SMALLEST

    def candidates(self, queries: NDArray[np.float32], depth: NDArray[np.int64]) -> Candidates:
        """The nearest of every query (Q, D), as many as it wants, and some more.

        Nothing is known of queries that want more than a GPU selects.

        Args:
            queries: (Q, D) float32, finite.
            depth: (Q,), at least 1.
        """
        vectors = self._comparable(queries)
        known = self.lengths if queries is self.gallery else None
        error = self._error(self._lengths(vectors) if known is None else known)
        bound = np.full(len(queries), np.inf)
        found = [_NOTHING]
        for some, count in _of_similar_depth(np.minimum(depth + SPARE, self.size)):
            if count > self.deepest:
                continue
            scores, rows = self._search(vectors[some], count)  # (B, count)
            bound[some] = self._bound(scores[:, -1].astype(np.float64), error[some])
            if count == self.size:
                bound[some] = np.where(error[some] < np.inf, -np.inf, np.inf)
            found.append((np.repeat(some, count), rows.ravel(), scores.ravel()))
        query, row, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(query, kind="stable") if len(found) > 2 else slice(None)
        listed = row[order] >= 0  # FAISS lists less where scores overflow
        query, row, score = (each[order][listed] for each in (query, row, score))
        if self.measure == "inner_product":
            return Candidates(query, row, bound, score, error)
        return Candidates(query, row, bound)

    def _comparable(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        given = unit(vectors) if self.measure == "cosine" else vectors
        return np.ascontiguousarray(given, dtype=np.float32)

    def _lengths(self, comparable: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.ones(len(comparable)) if self.measure == "cosine" else lengths_of(comparable)

    def _error(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much FAISS's scores may differ, (Q,); infinite where they may overflow.

        Args:
            lengths: (Q,), of the queries.
        """
        euclidean = self.measure == "euclidean"
        size = (lengths + self.longest) ** 2 if euclidean else lengths * self.longest
        error = self.gamma * size + self.lost
        if self.measure == "cosine":  # `unit` rounds lengths and quotients of both vectors
            error += 4.1 * UNIT_ROUNDOFF
        return np.where(size < LARGEST, error, np.inf)

    def _bound(self, worst: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
        """What an item that is not listed scores at most, (B,).

        Args:
            worst: (B,), of the listed scores, as FAISS computed them.
            error: (B,), of FAISS's scores.
        """
        known = np.isfinite(error)
        finite = np.where(known, error, 0)
        if self.measure == "euclidean":
            return np.where(known, -np.sqrt(np.maximum(worst - finite, 0)), np.inf)
        return np.where(known, worst + finite, np.inf)


def _on_cpu(gallery: NDArray[np.float32], measure: Measure) -> _Search:
    faiss = import_faiss()

    def search(
        queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return faiss.knn(queries, gallery, count, _metric(faiss, measure))

    return search


def _on_gpus(gallery: NDArray[np.float32], measure: Measure, gpus: Sequence[int]) -> _Search:
    """The gallery is cut into as many parts as there are GPUs, and freed with the search."""
    faiss = import_faiss()
    resources = [faiss.StandardGpuResources() for _ in gpus]
    index: Any = faiss.IndexFlat(gallery.shape[1], _metric(faiss, measure))
    index.add(gallery)
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    options.use_cuvs = False  # FAISS's own kernels, whose float32 products are what we bound
    if len(gpus) == 1:
        index = faiss.index_cpu_to_gpu(resources[0], gpus[0], index, options)
    else:
        index = faiss.index_cpu_to_gpu_multiple_py(resources, index, options, list(gpus))

    def search(
        queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert resources  # they live as long as the index
        return index.search(queries, count)

    return search


def _metric(faiss: ModuleType, measure: Measure) -> int:
    return faiss.METRIC_L2 if measure == "euclidean" else faiss.METRIC_INNER_PRODUCT


def _of_similar_depth(
    depth: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Rows whose depths differ by less than a factor of 2, and the largest of these."""
    magnitude = np.frexp(depth.astype(np.float64))[1]
    for each in np.unique(magnitude):
        rows = np.flatnonzero(magnitude == each)
        yield rows, int(depth[rows].max())


_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def gpus_of_faiss() -> int:
    """How many GPUs FAISS sees; 0 if it was built without them."""
    faiss = import_faiss()
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


@cache
def import_faiss() -> ModuleType:
    """FAISS, or an InputError that names the command to install it."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells how it was loaded
    try:
        return faiss_module()
    except ImportError as error:
        raise InputError(
            'searching needs FAISS: pip install "lookalike[cpu]", or "lookalike[gpu]" for an '
            "NVIDIA GPU (never both)"
        ) from error


def unit(vectors: NDArray) -> NDArray:
    """The vectors (N, D), at length 1 and of their own dtype; zero vectors stay zero."""
    return vectors / np.maximum(lengths_of(vectors), SHORTEST).astype(vectors.dtype)[:, None]


def lengths_of(vectors: NDArray) -> NDArray[np.float64]:
    """Euclidean lengths of vectors (N, D), computed in float64, (N,)."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
