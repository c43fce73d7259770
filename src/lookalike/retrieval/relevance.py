"""Relevance: which gallery items answer a query, and which are left out of its ranking.

By labels, items of the query's class answer it, and those with its own exclusion id are left out.
By judgements, both are listed for each query, whatever the labels say.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.data.judgements import Judgements
from lookalike.retrieval.embeddings import Embeddings, count_relevant, largest_exclusion

Rows = NDArray[np.int64]


class Relevance(Protocol):
    """Between Q queries and G gallery items."""

    def left_out(self) -> Rows | int:
        """How many items are left out of each query's ranking at most, (Q,) or one number."""
        ...

    def count(self) -> Rows:
        """How many items in each query's ranking are relevant, (Q,)."""
        ...

    def of_pairs(self, query: Rows, row: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of P pairs, which are in the ranking, and which are relevant, (P,) each."""
        ...

    def at(self, rows: Rows) -> "Relevance":
        """The same for some of the queries."""
        ...


@dataclass(frozen=True, eq=False)
class ByLabel:
    """Relevance by the labels and exclusion ids of embeddings.

    labels: (Q,), of the queries.
    exclusion_ids: (Q,), of the queries.
    counts: (Q,), how many items are relevant.
    gallery: G items.
    """

    labels: Rows
    exclusion_ids: Rows
    counts: Rows
    gallery: Embeddings

    @classmethod
    def of(cls, queries: Embeddings, gallery: Embeddings) -> "ByLabel":
        """Between these."""
        counts = count_relevant(queries, gallery)
        return cls(queries.labels, queries.exclusion_ids, counts, gallery)

    def left_out(self) -> int:
        """The most items of one exclusion id."""
        return largest_exclusion(self.gallery)

    def count(self) -> Rows:
        """Items of the query's class without its own exclusion id, (Q,)."""
        return self.counts

    def of_pairs(self, query: Rows, row: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pairs are in the ranking, and which are relevant, (P,) each."""
        ranked = self.exclusion_ids[query] != self.gallery.exclusion_ids[row]
        return ranked, self.labels[query] == self.gallery.labels[row]

    def at(self, rows: Rows) -> "ByLabel":
        """The same for some of the queries."""
        return ByLabel(self.labels[rows], self.exclusion_ids[rows], self.counts[rows], self.gallery)


@dataclass(frozen=True, eq=False)
class Judged:
    """Relevance by judgements: P pairs of rows, ordered by both; all other items are irrelevant.

    query: (P,), a row of the queries.
    row: (P,), a row of the gallery.
    relevant: (P,) bool; False for what is left out of the query's ranking.
    sizes: Q and G, the numbers of queries and of gallery items.
    """

    query: Rows
    row: Rows
    relevant: NDArray[np.bool_]
    sizes: tuple[int, int]

    @classmethod
    def of(cls, judgements: Judgements, queries: Embeddings, gallery: Embeddings) -> "Judged":
        """The judgements on these queries and items; a query itself is left out."""
        query = rows_of(judgements.queries, queries.ids)
        row = rows_of(judgements.items, gallery.ids)
        kept = (query >= 0) & (row >= 0) & (judgements.queries != judgements.items)
        itself = rows_of(queries.ids, gallery.ids)
        own = np.flatnonzero(itself >= 0)
        query = np.concatenate([query[kept], own])
        row = np.concatenate([row[kept], itself[own]])
        relevant = np.concatenate([judgements.relevant[kept], np.zeros(len(own), bool)])
        order = np.lexsort((row, query))
        sizes = len(queries), len(gallery)
        return cls(query[order], row[order], relevant[order], sizes)

    def left_out(self) -> Rows:
        """How many items are junk, (Q,)."""
        return np.bincount(self.query[~self.relevant], minlength=self.sizes[0])

    def count(self) -> Rows:
        """How many items are relevant, (Q,)."""
        return np.bincount(self.query[self.relevant], minlength=self.sizes[0])

    def of_pairs(self, query: Rows, row: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pairs are in the ranking, and which are relevant, (P,) each."""
        if not len(self._keys):
            return np.ones(len(query), bool), np.zeros(len(query), bool)
        keys = query * self.sizes[1] + row
        place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        found = self._keys[place] == keys
        relevant = found & self.relevant[place]
        return ~found | relevant, relevant

    def at(self, rows: Rows) -> "Judged":
        """The same for some of the queries."""
        first, end = (np.searchsorted(self.query, rows, side) for side in ("left", "right"))
        counts = end - first
        query = np.repeat(np.arange(len(rows)), counts)
        pairs = np.arange(len(query)) + (first - np.cumsum(counts) + counts)[query]
        return Judged(query, self.row[pairs], self.relevant[pairs], (len(rows), self.sizes[1]))

    @cached_property
    def _keys(self) -> Rows:
        return self.query * self.sizes[1] + self.row


def rows_of(ids: Rows, among: Rows) -> Rows:
    """Where each id stands among others, (N,); -1 where it does not."""
    if not len(among):
        return np.full(len(ids), -1)
    order = np.argsort(among)
    place = np.searchsorted(among, ids, sorter=order).clip(max=len(among) - 1)
    return np.where(among[order[place]] == ids, order[place], -1)
