"""Exact scores of pairs, and the nearest gallery vectors of queries with the proof that they are.

A score is computed in float64 and rounded to float32, so that equal vectors get equal scores
wherever they lie. Candidates come from FAISS; a query for which something may be missing is
compared with the whole gallery.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.retrieval.faiss_flat import FaissFlat, Measure, unit

BLOCK = 2**25  # float64 numbers held at once: 256 MiB


def nearest(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], k: int, measure: Measure
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` nearest gallery vectors of every query, nearest first; equal ones in gallery order.

    Cosine ranks as Euclidean distance does once vectors have length 1; to differ, they must not.

    >>> gallery = np.array([[1, 0], [3, 3], [0, 1]], np.float32)
    >>> rows, scores = nearest(np.array([[1, 1]], np.float32), gallery, 2, "cosine")
    >>> rows.tolist(), scores.round(2).tolist()
    ([[1, 0]], [[1.0, 0.71]])

    Args:
        queries: (Q, D).
        gallery: (G, D).
        k: of each query; fewer where the gallery has fewer.
        measure: "cosine" and "inner_product" are highest where vectors are nearest, a Euclidean
            distance is negated to be so.

    Returns:
        Rows of the gallery (Q, min(k, G)), and their scores, descending.
    """
    k = min(k, len(gallery))
    if not k or not len(queries):
        return np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)
    found = FaissFlat(gallery, measure).candidates(queries, np.full(len(queries), k))
    listed = pair_scores(queries, gallery, found.query, found.row, measure)
    order = np.lexsort((found.row, -listed, found.query)).reshape(len(queries), -1)[:, :k]
    rows, scores = found.row[order], listed[order]
    missed = np.flatnonzero(scores[:, -1] <= found.bound.astype(np.float32))
    for part in blocks(len(missed), len(gallery)):
        some = missed[part]
        every = all_scores(queries[some], gallery, measure)
        rows[some] = np.argsort(-every, axis=1, kind="stable")[:, :k]
        scores[some] = np.take_along_axis(every, rows[some], axis=1)
    return rows, scores


def pair_scores(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    query: NDArray[np.int64],
    row: NDArray[np.int64],
    measure: Measure = "inner_product",
) -> NDArray[np.float32]:
    """The scores of P pairs, (P,), by the rows of their query and of their gallery item, (P,)."""
    step = 512  # in float64 2 MiB at 512 dimensions, which the cache holds

    def block(start: int) -> NDArray[np.float64]:
        left = queries[query[start : start + step]].astype(np.float64)
        right = gallery[row[start : start + step]]
        if measure == "euclidean":
            return -np.linalg.norm(left - right, axis=1)
        products = np.einsum("pd,pd->p", left, right)
        if measure == "inner_product":
            return products
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right.astype(np.float64), axis=1)
        return np.clip(products / np.maximum(lengths, 1e-12), -1, 1)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        parts = threads.map(block, range(0, len(query), step))
        return np.concatenate([np.zeros(0), *parts]).astype(np.float32)


def all_scores(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], measure: Measure = "inner_product"
) -> NDArray[np.float32]:
    """The scores of all pairs, (Q, G)."""
    if measure == "euclidean":
        every = np.arange(len(gallery))
        each = [
            pair_scores(queries[[row]], gallery, np.zeros_like(every), every, measure)
            for row in range(len(queries))
        ]
        return np.stack(each)
    left, right = queries.astype(np.float64), gallery.astype(np.float64)
    if measure == "cosine":
        left, right = unit(left), unit(right)
    products = left @ right.T
    return (np.clip(products, -1, 1) if measure == "cosine" else products).astype(np.float32)


def descending(scores: NDArray[np.float32]) -> NDArray[np.uint64]:
    """float32 -> integers below 2**32 in the opposite order; the bits of IEEE 754 allow it."""
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 makes -0 and 0 equal
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return (~ascending).astype(np.uint64)


def blocks(length: int, width: int) -> Iterator[slice]:
    """Rows that are taken at once, so that a block of `width` numbers a row fits the memory."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, length, step):
        yield slice(start, start + step)
