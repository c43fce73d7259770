"""Exact scores of pairs, and rankings by them from an engine's candidates, with their proof.

A score is computed in float64 and rounded to float32, so that equal vectors get equal scores
wherever they lie. A query for which an engine may have missed something is compared with the whole
gallery.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.candidates import Candidates, Engine
from lookalike.retrieval.faiss_flat import SHORTEST, FaissFlat, Measure, lengths_of
from lookalike.retrieval.order import keys_of, rows_of, scores_of

BLOCK = 2**25  # float64 numbers held at once: 256 MiB

Vectors = NDArray[np.float32]
# (rows of queries (B,), scores (B, W), gallery rows (B, W) or (1, W)) -> keys (B, W), lowest first
KeysOf = Callable[[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]], NDArray[np.uint64]]


def nearest(
    queries: Vectors, gallery: Vectors, k: int, measure: Measure, engine: Engine | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` nearest gallery vectors of every query, nearest first; equal ones in gallery order.

    Cosine ranks as Euclidean distance does once vectors have length 1; to differ, they must not.

    >>> gallery = np.array([[1, 0], [3, 3], [0, 1]], np.float32)
    >>> rows, scores = nearest(np.array([[1, 1]], np.float32), gallery, 2, "cosine")
    >>> rows.tolist(), scores[0, 0].item()
    ([[1, 0]], 1.0)

    Args:
        queries: (Q, D).
        gallery: (G, D).
        k: of each query; fewer where the gallery has fewer.
        measure: "cosine" and "inner_product" are highest where vectors are nearest, a Euclidean
            distance is negated to be so.
        engine: that lists candidates of a gallery that is known to be finite; by default FAISS.

    Returns:
        Rows of the gallery (Q, min(k, G)), and their scores, descending.

    Raises:
        InputError: vectors hold NaN or infinity.
    """
    k = min(k, len(gallery))
    if not k or not len(queries):
        return np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)
    _check_finite(queries, *(() if engine else (gallery,)))
    engine = engine or FaissFlat(gallery, measure)
    found = engine.candidates(queries, np.full(len(queries), k))
    keys = first_keys(
        queries, gallery, k, found, lambda _, scores, rows: keys_of(scores, rows), measure
    )
    return rows_of(keys), scores_of(keys)


def first_keys(
    queries: Vectors,
    gallery: Vectors,
    k: int,
    found: Candidates,
    key: KeysOf,
    measure: Measure = "inner_product",
) -> NDArray[np.uint64]:
    """The `k` first of every query's whole ranking, as sorted keys (Q, k).

    Args:
        queries: (Q, D).
        gallery: (G, D).
        k: at most G.
        found: an engine's candidates, by the same measure.
        key: decides the order; an item that it gives the score minus infinity does not count.
        measure: of the scores.
    """
    listed = pair_scores(queries, gallery, found.query, found.row, measure)
    scores, rows = found.table(listed, -np.inf, k), found.table(found.row, 0, k)
    keys = key(np.arange(len(queries)), scores, rows)
    keys.sort(axis=1)
    keys = keys[:, :k]
    missed = np.flatnonzero(~found.proven(scores_of(keys[:, -1])))

    def key_of_missed(
        some: NDArray[np.int64], scores: Vectors, rows: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        return key(missed[some], scores, rows)

    if len(missed):
        keys[missed] = whole_keys(queries[missed], gallery, k, key_of_missed, measure)
    return keys


def whole_keys(
    queries: Vectors, gallery: Vectors, k: int, key: KeysOf, measure: Measure = "inner_product"
) -> NDArray[np.uint64]:
    """The same as `first_keys`, (Q, min(k, G)), by comparing every query with the whole gallery."""
    keys = np.empty((len(queries), min(k, len(gallery))), np.uint64)
    every = np.arange(len(gallery))[None]
    for part in blocks(len(queries), len(gallery)):
        scores = all_scores(queries[part], gallery, measure)
        block = key(np.arange(len(queries))[part], scores, every)
        block.sort(axis=1)
        keys[part] = block[:, :k]
    return keys


def pair_scores(
    queries: Vectors,
    gallery: Vectors,
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
        return _cosine(products, lengths_of(left), lengths_of(right))

    if len(query) <= step:  # a query alone: to start threads takes longer
        return block(0).astype(np.float32)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        parts = threads.map(block, range(0, len(query), step))
        return np.concatenate([np.zeros(0), *parts]).astype(np.float32)


def all_scores(
    queries: Vectors, gallery: Vectors, measure: Measure = "inner_product"
) -> NDArray[np.float32]:
    """The scores of all pairs, (Q, G)."""
    if measure == "euclidean":
        every = np.arange(len(gallery))
        each = [
            pair_scores(queries[[row]], gallery, np.zeros_like(every), every, measure)
            for row in range(len(queries))
        ]
        return np.stack(each)
    products = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    if measure == "cosine":
        products = _cosine(products, lengths_of(queries)[:, None], lengths_of(gallery))
    return products.astype(np.float32)


def _cosine(
    products: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of products and of the lengths of their vectors; each is compared as `unit` makes it."""
    return np.clip(products / (np.maximum(left, SHORTEST) * np.maximum(right, SHORTEST)), -1, 1)


def blocks(length: int, width: int) -> Iterator[slice]:
    """Rows that are taken at once, so that a block of `width` numbers a row fits the memory."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, length, step):
        yield slice(start, start + step)


def _check_finite(*sets: Vectors) -> None:
    if not all(np.isfinite(vectors).all() for vectors in sets):
        raise InputError(
            "vectors to be searched hold NaN or infinity: the network's training has diverged. Use "
            "an earlier checkpoint, or train again with a lower learning rate."
        )
