"""Exact search in vectors of length 1 that lie in a mapped file, in all rows or in some of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.candidates import Engine
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.exact import nearest
from lookalike.retrieval.faiss_flat import FaissFlat
from lookalike.retrieval.order import keys_of, rows_of, scores_of

GATHERED = 2**20  # numbers that are copied at once: 4 MiB, which are used again for the next
LONGEST = 1 + 1e-5  # a vector of length 1, rounded

Vectors = NDArray[np.float32]
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # rows (Q, K), scores (Q, K), descending


class FlatSearch:
    """Compares queries with all vectors.

    Args:
        vectors: (N, D) of length 1.
        device: where; a GPU gets a copy of the vectors with the first search.
    """

    def __init__(self, vectors: Vectors, device: Any) -> None:
        self.vectors = vectors
        self.device = device
        self._engine: Engine | None = None

    def nearest(self, queries: Vectors, k: int, kept: NDArray[np.bool_] | None = None) -> Found:
        """Rows and cosine similarities of the nearest, (Q, min(k, N)).

        Args:
            queries: (Q, D) of length 1.
            k: of each query.
            kept: (N,), the rows that count; by default all.
        """
        if kept is None or kept.all():
            return nearest(queries, self.vectors, k, "inner_product", self._engine_of_all())
        return among(queries, self.vectors, np.flatnonzero(kept), k)

    def _engine_of_all(self) -> Engine:
        if self._engine is None:
            on_gpu = self.device.type == "cuda"
            self._engine = (
                Engines(device=self.device).of(self.vectors)
                if on_gpu
                else FaissFlat(self.vectors, longest=LONGEST)
            )
        return self._engine


def among(queries: Vectors, vectors: Vectors, rows: NDArray[np.int64], k: int) -> Found:
    """The nearest of some rows only, (Q, min(k, M)).

    Args:
        queries: (Q, D) of length 1.
        vectors: (N, D) of length 1.
        rows: (M,), ascending.
        k: of each query.
    """
    found = []
    for some in _blocks(rows, vectors.shape[1]):
        part = vectors[some]
        local, scores = nearest(queries, part, k, "inner_product", FaissFlat(part, longest=LONGEST))
        found.append((some[local], scores))
    return best(found, len(queries), k)


def closest(
    features: Vectors,
    vectors: Vectors,
    lengths: NDArray[np.float32],
    k: int,
    kept: NDArray[np.bool_] | None = None,
) -> Found:
    """Rows and negated Euclidean distances of the nearest before normalisation.

    Args:
        features: (Q, D), not normalised.
        vectors: (N, D), of length 1.
        lengths: (N,), that they had.
        k: of each query.
        kept: (N,), the rows that count; by default all.
    """
    rows = np.arange(len(vectors)) if kept is None else np.flatnonzero(kept)
    found = []
    for some in _blocks(rows, vectors.shape[1]):
        local, scores = nearest(features, vectors[some] * lengths[some, None], k, "euclidean")
        found.append((some[local], scores))
    return best(found, len(features), k)


def best(found: list[Found], queries: int, k: int) -> Found:
    """The first `k` of several results, by score and then by row; rows of -1 are none."""
    if not found:
        return np.zeros((queries, 0), np.int64), np.zeros((queries, 0), np.float32)
    if len(found) == 1:
        return found[0]
    rows, scores = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    return ranked(rows, scores, k)


def ranked(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Found:
    """The first `k` of every row's items (Q, M), by score and then by row; rows of -1 are none."""
    keys = keys_of(np.where(rows < 0, -np.inf, scores).astype(np.float32), rows.clip(0))
    keys.sort(axis=1)
    keys = keys[:, :k]
    scores = scores_of(keys)
    return np.where(np.isneginf(scores), -1, rows_of(keys)), scores


def _blocks(rows: NDArray[np.int64], dimensions: int) -> list[NDArray[np.int64]]:
    step = max(1, GATHERED // dimensions)
    return [rows[start : start + step] for start in range(0, len(rows), step)]
