"""The nearest gallery vectors of queries, exactly, by cosine similarity or by Euclidean distance.

For answers to people: without labels, and with whatever part of the gallery a query may see. FAISS
finds candidates in float32; their order is that of float64, ties that of the gallery.
"""

from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

Measure = Literal["cosine", "euclidean"]
SPARE = 8  # candidates beyond those asked for: float32 may have mistaken their order


def nearest(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], k: int, measure: Measure
) -> NDArray[np.int64]:
    """Rows of the gallery (G, D) for each of the queries (Q, D), nearest first, (Q, min(k, G)).

    Cosine ranks as Euclidean distance does once vectors have length 1; to differ, they must not.
    """
    k = min(k, len(gallery))
    candidates = np.sort(_candidates(queries, gallery, min(k + SPARE, len(gallery)), measure))
    nearest_first = []
    for query, rows in zip(queries, candidates, strict=True):
        others = gallery[rows]
        costs = -cosine(query, others) if measure == "cosine" else euclidean(query, others)
        nearest_first.append(rows[np.argsort(costs, kind="stable")[:k]])
    return np.array(nearest_first, dtype=np.int64).reshape(len(queries), k)


def _candidates(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], count: int, measure: Measure
) -> NDArray[np.int64]:
    if measure == "cosine":  # of length 1, both measures rank alike
        queries, gallery = unit(queries), unit(gallery)
    index = faiss.IndexFlatL2(gallery.shape[1])
    index.add(np.ascontiguousarray(gallery))
    return index.search(np.ascontiguousarray(queries), count)[1]  # (Q, count)


def euclidean(query: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances (G,) of one vector (D,) to others (G, D)."""
    return np.linalg.norm(others.astype(np.float64) - query, axis=1)


def cosine(query: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine similarities (G,), in [-1, 1], of one vector (D,) to others (G, D)."""
    precise = others.astype(np.float64)
    lengths = np.linalg.norm(precise, axis=1) * np.linalg.norm(query.astype(np.float64))
    return np.clip(precise @ query / np.maximum(lengths, 1e-12), -1, 1)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (N, D), at length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32, copy=False)
