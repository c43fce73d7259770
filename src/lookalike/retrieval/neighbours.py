"""Neighbours: for every query its most similar gallery items, exactly; ties count against it.

An engine finds candidates. They are scored again in float64 and rounded to float32, so that equal
vectors get equal scores wherever they lie, and the order of the gallery plays no part. Of equal
scores the irrelevant items come first. Where the last place is so close that the engine may have
missed an item, that query is compared with the whole gallery.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lookalike.notebook import SHOWN, paragraph, table
from lookalike.retrieval.embeddings import Embeddings, count_relevant, largest_exclusion
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.exact import BLOCK, first_keys, whole_keys
from lookalike.retrieval.faiss_flat import SPARE
from lookalike.retrieval.order import NOTHING, keys_of, relevant_of, rows_of, scores_of


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

    def _repr_html_(self) -> str:
        queries, k = self.ids.shape
        lines = [
            [query, *(self._cell(query, place) for place in range(min(k, SHOWN)))]
            for query in range(min(queries, SHOWN))
        ]
        head = ["query", *(str(place + 1) for place in range(min(k, SHOWN)))]
        said = "id, cosine similarity, ✓ where it is relevant"
        return paragraph(f"the {k} nearest of {queries} queries: {said}") + table(head, lines)

    def _cell(self, query: int, place: int) -> str:
        if self.ids[query, place] < 0:
            return "-"
        mark = " ✓" if self.relevant[query, place] else ""
        return f"{self.ids[query, place]}: {self.scores[query, place]:.3f}{mark}"


class Gallery:
    """Embeddings to be searched.

    Gallery items with a query's own exclusion id are left out: by default only itself. An exact
    copy under another id counts.

    Args:
        embeddings: what is searched.
        engines: that list candidates; by default one is chosen, on the CPU.
    """

    def __init__(self, embeddings: Embeddings, engines: Engines | None = None) -> None:
        self.embeddings = embeddings
        self._vectors = np.ascontiguousarray(embeddings.vectors, dtype=np.float32)
        self._engine = (engines or Engines()).of(self._vectors)
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
            keys = self._whole(block, k) if everything else self._first(block, k)
            yield self._neighbours(block, keys, k)

    def rank(self, queries: Embeddings, scores: NDArray[np.floating], k: int) -> Neighbours:
        """The `k` best of every query by scores (Q, G) that were made elsewhere, high for near."""
        every = np.arange(len(self))[None]
        keys = self._keys(queries, np.arange(len(queries)), scores.astype(np.float32), every)
        keys.sort(axis=1)
        return self._neighbours(queries, keys, k)

    def _first(self, queries: Embeddings, k: int) -> NDArray[np.uint64]:
        found = self._engine.candidates(queries.vectors, np.full(len(queries), k + self._excluded))
        return first_keys(queries.vectors, self._vectors, k, found, partial(self._keys, queries))

    def _whole(self, queries: Embeddings, k: int) -> NDArray[np.uint64]:
        return whole_keys(queries.vectors, self._vectors, k, partial(self._keys, queries))

    def _keys(
        self,
        queries: Embeddings,
        asked: NDArray[np.int64],
        scores: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> NDArray[np.uint64]:
        """Keys of some of the queries, `asked` (B,); `scores` is overwritten where excluded."""
        excluded = self.embeddings.exclusion_ids[rows] == queries.exclusion_ids[asked, None]
        scores[excluded] = -np.inf
        return keys_of(scores, rows, self.embeddings.labels[rows] == queries.labels[asked, None])

    def _neighbours(self, queries: Embeddings, keys: NDArray[np.uint64], k: int) -> Neighbours:
        keys = keys[:, :k]
        keys = np.pad(keys, ((0, 0), (0, k - keys.shape[1])), constant_values=NOTHING)
        scores, rows = scores_of(keys), rows_of(keys)
        present = np.isfinite(scores)  # what is excluded was scored minus infinity
        ids = np.full(rows.shape, -1)
        ids[present] = self.embeddings.ids[rows[present]]
        return Neighbours(
            ids=ids,
            scores=scores,
            relevant=present & relevant_of(keys),
            n_relevant=count_relevant(queries, self.embeddings),
        )
