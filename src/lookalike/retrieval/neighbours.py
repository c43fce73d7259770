"""Neighbours: for every query its most similar gallery items, exactly; ties count against it.

An engine finds candidates. They are scored again in float64 and rounded to float32, so that equal
vectors get equal scores wherever they lie, and the order of the gallery plays no part. Of equal
scores the irrelevant items come first. Where the last place is so close that the engine may have
missed an item, that query is compared with the whole gallery.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings, count_relevant, largest_exclusion
from lookalike.retrieval.exact import BLOCK, all_scores, blocks, descending, pair_scores
from lookalike.retrieval.faiss_flat import SPARE, FaissFlat


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The K nearest gallery items of Q queries, nearest first.

    ids: (Q, K) int64, -1 where the gallery has no more.
    scores: (Q, K) float32, cosine similarity, descending.
    relevant: (Q, K) bool.
    n_relevant: (Q,) int64, relevant items in the whole gallery.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]


class Gallery:
    """Embeddings to be searched.

    Gallery items with a query's own exclusion id are left out: by default only itself. An exact
    copy under another id counts.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self._vectors = np.ascontiguousarray(embeddings.vectors, dtype=np.float32)
        self._engine = FaissFlat(self._vectors)
        self._excluded = largest_exclusion(embeddings)  # at most so many are left out

    def __len__(self) -> int:
        return len(self.embeddings)

    def search(self, queries: Embeddings, k: int) -> Iterator[Neighbours]:
        """The `k` nearest of every query, in blocks of queries that fit the memory."""
        candidates = k + self._excluded + SPARE
        everything = candidates * 4 > len(self)  # sorting whole rows is then the faster way
        per_query = len(self) if everything else candidates * queries.vectors.shape[1]
        step = max(1, BLOCK // max(1, per_query))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            keys = self._rank_all(block) if everything else self._rank_candidates(block, k)
            yield self._neighbours(block, keys, k)

    def rank(self, queries: Embeddings, scores: NDArray[np.floating], k: int) -> Neighbours:
        """The `k` best of every query by scores (Q, G) that were made elsewhere, high for near."""
        return self._neighbours(
            queries, self._sorted_keys(queries, scores, np.arange(len(self))[None]), k
        )

    def _rank_candidates(self, queries: Embeddings, k: int) -> NDArray[np.uint64]:
        wanted = np.full(len(queries), k + self._excluded)
        found = self._engine.candidates(queries.vectors, wanted)
        listed = pair_scores(queries.vectors, self._vectors, found.query, found.row)
        shape = (len(queries), -1)
        keys = self._sorted_keys(queries, listed.reshape(shape), found.row.reshape(shape))[:, :k]
        missed = found.bound.astype(np.float32) >= _scores_of(keys[:, -1])
        if missed.any():
            keys[missed] = self._rank_all(queries[missed])[:, :k]
        return keys

    def _rank_all(self, queries: Embeddings) -> NDArray[np.uint64]:
        rows = np.arange(len(self))[None]
        parts = (queries[part] for part in blocks(len(queries), len(self)))
        return np.concatenate(
            [self._sorted_keys(p, all_scores(p.vectors, self._vectors), rows) for p in parts]
        )

    def _sorted_keys(
        self, queries: Embeddings, scores: NDArray[np.floating], rows: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """One integer per pair that sorts by score descending, irrelevant first, then row."""
        single = scores.astype(np.float32)
        single[self.embeddings.exclusion_ids[rows] == queries.exclusion_ids[:, None]] = -np.inf
        relevant = self.embeddings.labels[rows] == queries.labels[:, None]
        keys = descending(single) << np.uint64(32)
        keys |= relevant.astype(np.uint64) << np.uint64(31)
        keys |= rows.astype(np.uint64)
        keys.sort(axis=1)
        return keys

    def _neighbours(self, queries: Embeddings, keys: NDArray[np.uint64], k: int) -> Neighbours:
        keys = keys[:, :k]
        keys = np.pad(keys, ((0, 0), (0, k - keys.shape[1])), constant_values=_NOTHING)
        scores = _scores_of(keys)
        present = np.isfinite(scores)  # what is excluded was scored minus infinity
        rows = (keys & np.uint64(2**31 - 1)).astype(np.int64)
        return Neighbours(
            ids=np.where(present, self.embeddings.ids[np.where(present, rows, 0)], -1),
            scores=scores,
            relevant=present & ((keys >> np.uint64(31)) & np.uint64(1)).astype(bool),
            n_relevant=count_relevant(queries, self.embeddings),
        )


def _scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ascending >> 31, ascending & np.uint32(2**31 - 1), ~ascending)
    return bits.astype(np.uint32).view(np.float32)


_NOTHING = descending(np.array([-np.inf], np.float32))[0] << np.uint64(32)
