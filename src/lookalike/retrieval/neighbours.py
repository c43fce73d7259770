"""Neighbours: for every query its most similar gallery items, exactly, with ties told apart fairly.

FAISS finds candidates in float32. They are then scored again in float64 and rounded to float32,
so that equal vectors get equal scores wherever they lie, and the order of the gallery plays no
part. Ties are broken against the query: irrelevant items come first. Where the last place is so
close that FAISS may have missed an item, that query is compared with the whole gallery.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings, count_relevant, largest_exclusion

SPARE = 8  # candidates beyond those asked for: ties up to so many need no second look
FLOAT32_ERROR = 1e-5  # of a FAISS inner product of unit vectors, generously
BLOCK = 2**25  # float64 numbers held at once: 256 MiB


@dataclass(frozen=True, eq=False)
class Neighbours:
    """ids (Q, K) int64, -1 where the gallery has no more; scores (Q, K) float32, cosine,
    descending; relevant (Q, K) bool; n_relevant (Q,) int64, relevant items in the whole gallery.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]


class Gallery:
    """Embeddings to be searched.

    A query never meets a gallery item with its own exclusion id: by default only itself. An exact
    copy under another id counts.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self._vectors = np.ascontiguousarray(embeddings.vectors, dtype=np.float32)
        self._index = faiss.IndexFlatIP(self._vectors.shape[1])
        self._index.add(self._vectors)
        self._never_met = largest_exclusion(embeddings)  # at most so many are left out

    def __len__(self) -> int:
        return len(self.embeddings)

    def search(self, queries: Embeddings, k: int) -> Iterator[Neighbours]:
        """The `k` nearest of every query, in blocks of queries that fit the memory."""
        candidates = k + self._never_met + SPARE
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
        found_scores, rows = self._index.search(
            np.ascontiguousarray(queries.vectors), k + self._never_met + SPARE
        )
        gathered = self._vectors[rows].astype(np.float64)  # (Q, C, D)
        scores = (gathered @ queries.vectors[:, :, None].astype(np.float64))[:, :, 0]
        keys = self._sorted_keys(queries, scores, rows)[:, :k]
        # an item that FAISS left out scores at most the worst it found, plus its error
        missed = found_scores[:, -1] + FLOAT32_ERROR >= _scores_of(keys[:, -1])
        if missed.any():
            keys[missed] = self._rank_all(queries[missed])[:, :k]
        return keys

    def _rank_all(self, queries: Embeddings) -> NDArray[np.uint64]:
        step = max(1, BLOCK // len(self))
        gallery = self._vectors.T.astype(np.float64)
        rows = np.arange(len(self))[None]
        return np.concatenate(
            [
                self._sorted_keys(part, part.vectors.astype(np.float64) @ gallery, rows)
                for part in (queries[s : s + step] for s in range(0, len(queries), step))
            ]
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
        present = np.isfinite(scores)  # what a query never meets was scored minus infinity
        rows = (keys & np.uint64(2**31 - 1)).astype(np.int64)
        return Neighbours(
            ids=np.where(present, self.embeddings.ids[np.where(present, rows, 0)], -1),
            scores=scores,
            relevant=present & ((keys >> np.uint64(31)) & np.uint64(1)).astype(bool),
            n_relevant=count_relevant(queries, self.embeddings),
        )


def descending(scores: NDArray[np.float32]) -> NDArray[np.uint64]:
    """float32 -> integers below 2**32 in the opposite order; the bits of IEEE 754 allow it."""
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 makes -0 and 0 equal
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return (~ascending).astype(np.uint64)


def _scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ascending >> 31, ascending & np.uint32(2**31 - 1), ~ascending)
    return bits.astype(np.uint32).view(np.float32)


_NOTHING = descending(np.array([-np.inf], np.float32))[0] << np.uint64(32)
