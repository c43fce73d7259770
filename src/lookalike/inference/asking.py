"""Asking an index: from query vectors to hits, with everything that narrows or orders them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.inference.hits import Hit
from lookalike.inference.items import OWN
from lookalike.inference.lookup import check_threshold
from lookalike.retrieval.arrow import is_one_of, taken
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.exact import pair_scores
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.near_copies import NEAR
from lookalike.retrieval.neighbours import Gallery
from lookalike.retrieval.rerank import Rerank
from lookalike.retrieval.where import where as rows_where

Vectors = NDArray[np.float32]
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # rows (Q, K), -1 for none, scores (Q, K)


@dataclass(frozen=True)
class Question:
    """What is asked of every query.

    k: hits of each query at most.
    where: a filter on the items' columns, see `retrieval.where`.
    threshold: hits of a lower cosine similarity are none.
    fold_duplicates: whether hits that are near-duplicates of a better one are folded into it.
    rerank: what orders the hits; None keeps the order by cosine similarity.

    Raises:
        InputError: k is below 1, or the threshold is no cosine similarity.
    """

    k: int = 5
    where: str | None = None
    threshold: float = -1.0
    fold_duplicates: bool = False
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k={self.k}: need 1 or more")
        check_threshold(self.threshold)


def ask(
    store: FaissFolder,
    vectors: Vectors,
    question: Question,
    within: Sequence[str | None],
    excluded: Sequence[Collection[int]],
) -> list[list[Hit]]:
    """The hits of every query, best first.

    Args:
        store: that is searched.
        vectors: (Q, D) of length 1.
        question: what is asked of all.
        within: of each query the class that is searched; None for all.
        excluded: of each query the ids of items that it does not find.
    """
    kept = kept_rows(store, question.where)
    found: list[list[Hit]] = [[] for _ in within]
    for place in set(within):
        some = [row for row, other in enumerate(within) if other == place]
        rows_kept = narrowed(store, kept, place)
        hits = _ask(store, vectors[some], question, rows_kept, [excluded[row] for row in some])
        for row, each in zip(some, hits, strict=True):
            found[row] = each
    return found


def kept_rows(store: FaissFolder, where: str | None) -> NDArray[np.bool_] | None:
    """Which rows a filter keeps, (N,); None for all."""
    return None if where is None else rows_where(where, store.columns)


def narrowed(
    store: FaissFolder, kept: NDArray[np.bool_] | None, class_name: str | None
) -> NDArray[np.bool_] | None:
    """The same, of one class only; a network may predict one that no item has."""
    if class_name is None:
        return kept
    of_class = is_one_of(store.columns["class"], [class_name])
    return of_class if kept is None else of_class & kept


def _ask(
    store: FaissFolder,
    vectors: Vectors,
    question: Question,
    kept: NDArray[np.bool_] | None,
    excluded: Sequence[Collection[int]],
) -> list[list[Hit]]:
    size = len(store) if kept is None else int(kept.sum())
    most = max(map(len, excluded), default=0)
    depth = question.k + most
    while True:
        rows, scores = (
            store.nearest(vectors, min(depth, size), kept)
            if question.rerank is None
            else _reranked(store, vectors, min(depth, size), kept, question.rerank)
        )
        hits = [
            _hits_of(store, vector, line[line >= 0], question, store.rows_of(_array(out)))
            for vector, line, out in zip(vectors, rows, excluded, strict=True)
        ]
        more = [len(found) < question.k for found in hits]
        above = scores[:, -1:].max(axis=1, initial=-np.inf) >= question.threshold
        if not question.fold_duplicates or depth >= size or not (more & above).any():
            return hits
        depth *= 2


def _hits_of(
    store: FaissFolder,
    vector: Vectors,
    rows: NDArray[np.int64],
    question: Question,
    out: NDArray[np.int64],
) -> list[Hit]:
    """Of one query."""
    rows = rows[~np.isin(rows, out)]
    scores = pair_scores(vector[None], store.vectors, np.zeros_like(rows), rows)
    above = scores >= question.threshold
    rows, scores = rows[above], scores[above]
    groups = (
        folded(store.vectors[rows]) if question.fold_duplicates else [[n] for n in range(len(rows))]
    )
    groups = groups[: question.k]
    firsts = [group[0] for group in groups]
    hits = hits_of_items(taken(store.columns, rows[firsts]), scores[firsts].tolist())
    return [
        replace(hit, copies=tuple(store.ids[rows[group[1:]]].tolist()))
        for hit, group in zip(hits, groups, strict=True)
    ]


def hits_of_items(items: pa.Table, scores: Sequence[float]) -> list[Hit]:
    """Items, best first, as hits."""
    more = [name for name in items.column_names if name not in OWN.names]
    return [
        Hit(
            id=item["id"],
            path=item["path"],
            class_name=item["class"],
            score=float(score),
            rank=rank,
            columns={name: item[name] for name in more},
        )
        for rank, (item, score) in enumerate(zip(items.to_pylist(), scores, strict=True), 1)
    ]


def folded(vectors: Vectors) -> list[list[int]]:
    """Places of hits in groups of near-duplicates: each is near to the first of its group.

    Args:
        vectors: (K, D) of length 1, of the best hit first.
    """
    near = vectors @ vectors.T >= NEAR  # (K, K)
    groups, taken = [], np.zeros(len(vectors), bool)
    for place in range(len(vectors)):
        if not taken[place]:
            group = np.flatnonzero((near[place] & ~taken) | (np.arange(len(vectors)) == place))
            taken[group] = True
            groups.append([place, *(each for each in group.tolist() if each != place)])
    return groups


def _reranked(
    store: FaissFolder, vectors: Vectors, k: int, kept: NDArray[np.bool_] | None, rerank: Rerank
) -> Found:
    """Rows of the final ranking; new queries get ids behind those of the items."""
    rows = np.arange(len(store)) if kept is None else np.flatnonzero(kept)
    gallery = _embeddings(store.vectors[rows], rows)
    asked = len(store) + np.arange(len(vectors))
    queries = _embeddings(vectors, asked)
    everything = _embeddings(
        np.concatenate([gallery.vectors, vectors]), np.concatenate([rows, asked])
    )
    blocks = list(rerank(Gallery(gallery), queries, k, everything))
    return (
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.scores for block in blocks]),
    )


def _embeddings(vectors: Vectors, ids: NDArray[np.int64]) -> Embeddings:
    return Embeddings(vectors, np.zeros(len(ids), np.int64), ids.astype(np.int64))


def _array(ids: Collection[Any]) -> NDArray[np.int64]:
    return np.array(list(ids), dtype=np.int64)
