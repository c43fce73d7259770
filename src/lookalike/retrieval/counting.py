"""Counting: how many irrelevant items score as high as each relevant one; no ranking is sorted.

A rank needs no order of what lies before it, only its number. A float32 product differs from the
exact score by a bounded error, so most items lie surely before or surely behind a relevant one; the
few others, and what they are compared with, are scored exactly. Only items that reach the lowest
relevant score matter. Their products are put into one of 2^16 steps; with the step above and the
item's place below, one integer each is sorted, and gives both the counts and who is in doubt.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.exact import all_scores, pair_scores
from lookalike.retrieval.products import flat_nonzero, products_of, tensor_of
from lookalike.retrieval.relevance import Judged

STEPS = 2**16  # from a score of -1 to 1
PLACE, STEP = 16, 16  # bits of an integer: place in the tile below, step above, then the query
PLACES = 2**PLACE  # items of a tile, at most
RELEVANT = -torch.inf  # the product of relevant items, which do not count
IN_DOUBT = 1 / 16  # of a tile's pairs; where more are, a product of all is the quicker way
DENSE = 1 / 8  # of a tile's pairs; where more matter, whole rows are sorted
DOUBTS = 2**20  # pairs that are kept before they are scored exactly


@dataclass(frozen=True, eq=False)
class Relevant:
    """Queries with their relevant items, and how many others score as high.

    rows: (B,) of the queries.
    queries: B of them.
    gallery: G items.
    items: (B, R) int32, gallery rows of the relevant items.
    scores: (B, R) float32, their products, descending; minus infinity where there are fewer.
    ahead: (B, R) int64, irrelevant items counted so far that score as high.
    same_query, same_row: (S,) int64, pairs whose products do not count: all of one class, or all
        that were judged.
    error: by which a product differs from the exact score, at most.
    doubts: of tile after tile, the places of relevant items in `scores` and the gallery rows that
        may score as high; scored exactly many at a time, as a call takes longer than a pair.
    """

    rows: NDArray[np.int64]
    queries: Embeddings
    gallery: Embeddings
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    ahead: NDArray[np.int64]
    same_query: NDArray[np.int64]
    same_row: NDArray[np.int64]
    error: float
    doubts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        queries: Embeddings,
        gallery: Embeddings,
        by_label: NDArray[np.int64],
        error: float,
    ) -> "Relevant":
        """The relevant items of queries in a gallery.

        Args:
            rows: (B,) of the queries.
            queries: B of them, ordered by label.
            gallery: G items.
            by_label: (G,) its rows, ordered by label.
            error: by which a product differs from the exact score, at most.
        """
        labels = gallery.labels[by_label]
        first = np.searchsorted(labels, queries.labels, "left")
        end = np.searchsorted(labels, queries.labels, "right")
        width = int((end - first).max(initial=0))
        scores = np.full((len(queries), width), -np.inf, np.float32)
        items = np.zeros(scores.shape, np.int32)
        starts = np.flatnonzero(np.diff(queries.labels, prepend=queries.labels[:1] - 1))
        for start, stop in pairwise([*starts.tolist(), len(queries)]):
            same = by_label[first[start] : end[start]]
            left, right = queries.vectors[start:stop], gallery.vectors[same]
            scores[start:stop, : len(same)] = products_of(tensor_of(left), tensor_of(right)).numpy()
            items[start:stop, : len(same)] = same
        same_query, place = np.nonzero(np.arange(width) < (end - first)[:, None])
        same_row = items[same_query, place].astype(np.int64)
        own = gallery.exclusion_ids[same_row] == queries.exclusion_ids[same_query]
        scores[same_query[own], place[own]] = -np.inf
        return cls._sorted(rows, queries, gallery, items, scores, same_query, same_row, error)

    @classmethod
    def judged(
        cls,
        rows: NDArray[np.int64],
        queries: Embeddings,
        gallery: Embeddings,
        relevance: Judged,
        error: float,
    ) -> "Relevant":
        """The same by judgements on these queries; what they leave out does not count either."""
        kept = relevance.relevant
        query, row, counts = relevance.query[kept], relevance.row[kept], relevance.count()
        there = np.arange(int(counts.max(initial=0))) < counts[:, None]  # (B, R)
        scores = np.full(there.shape, -np.inf, np.float32)
        items = np.zeros(there.shape, np.int32)
        scores[there], items[there] = pair_scores(queries.vectors, gallery.vectors, query, row), row
        query, row = relevance.query, relevance.row
        return cls._sorted(rows, queries, gallery, items, scores, query, row, error)

    @classmethod
    def _sorted(
        cls, rows: Any, queries: Any, gallery: Any, items: NDArray, scores: NDArray, *more: Any
    ) -> "Relevant":
        """With the relevant items of each query nearest first."""
        order = np.argsort(-scores, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        items = np.take_along_axis(items, order, axis=1)
        ahead = np.zeros(scores.shape, np.int64)
        return cls(rows, queries, gallery, items, scores, ahead, *more)

    def ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Query and rank of every relevant item, (P,) each, ordered by both.

        The items' products may not be in the order of their exact scores, but no item that scores
        lower has fewer ahead.
        """
        self._settle_doubts()
        there = np.isfinite(self.scores)
        ahead = np.sort(np.where(there, self.ahead, np.iinfo(np.int64).max), axis=1)
        query, place = np.nonzero(there)
        return query, place + 1 + ahead[query, place]

    def leave_out(self, products: Tensor, start: int) -> None:
        """Mark what is relevant, in place.

        Args:
            products: (B, C) with the gallery items from `start` on.
            start: a gallery row.
        """
        here = (self.same_row >= start) & (self.same_row < start + products.shape[1])
        query, row = self.same_query[here], self.same_row[here] - start
        products[torch.from_numpy(query), torch.from_numpy(row)] = RELEVANT

    def count(self, products: Tensor, start: int, across: bool = False) -> None:
        """Take further items into account.

        Args:
            products: (B, C) float32, with minus infinity for items that are relevant; on any
                device.
            start: the gallery row of the first of the C items.
            across: whether the products are (C, B) instead.
        """
        limit = self._lowest.unsqueeze(0 if across else 1).to(products.device)
        reached = flat_nonzero(products >= limit)
        if len(reached) > DENSE * products.numel():
            self._count_whole((products.T if across else products).cpu().contiguous(), start)
        elif len(reached):
            steps = _steps(products.flatten()[reached]).cpu().numpy()
            query, place = np.divmod(reached.cpu().numpy(), products.shape[1])
            self._count_some(*((place, query) if across else (query, place)), steps, start)

    @cached_property
    def _lowest(self) -> Tensor:
        """The product that an item needs to matter to a query, (B,)."""
        there = np.isfinite(self.scores)
        lowest = np.where(there, self.scores, np.inf).min(axis=1, initial=np.inf) - 2 * self.error
        return torch.from_numpy(np.nextafter(lowest.astype(np.float32), np.float32(-np.inf)))

    def _count_some(
        self,
        query: NDArray[np.int64],
        place: NDArray[np.int64],
        steps: NDArray[np.int64],
        start: int,
    ) -> None:
        """Items that matter to a query, as P pairs."""
        keys = (query << PLACE + STEP) | (steps << PLACE) | place
        keys.sort()
        of_query = np.arange(len(self.rows) + 1)[:, None] << PLACE + STEP
        low, high = (of_query[:-1] + (step << PLACE) for step in self._in_doubt())
        begin, end, last = (_found(keys, limit) for limit in (low, high, of_query[1:]))
        self.ahead[:] += last - end
        self._doubt(keys, begin, end - begin, start)

    def _count_whole(self, products: Tensor, start: int) -> None:
        """All items, by sorting the rows."""
        steps = _steps(products).to(torch.int32).sub_(STEPS // 2)
        steps.masked_fill_(products == RELEVANT, -STEPS // 2)  # below all others
        keys = (steps.numpy() << PLACE) | np.arange(products.shape[1], dtype=np.int32)
        _sort_rows(keys)
        begin, end = (_places(keys, step - STEPS // 2) for step in self._in_doubt())
        if (end - begin).sum() > IN_DOUBT * keys.size:
            self.ahead[:] += self._all_exactly(products, start)
            return
        self.ahead[:] += keys.shape[1] - end
        row = np.arange(len(keys))[:, None] * keys.shape[1]
        self._doubt(keys.ravel(), begin + row, end - begin, start)

    def _in_doubt(self) -> Iterator[NDArray[np.int64]]:
        """The first step in doubt of each relevant score, and the first above, (B, R) each.

        Both products err. One step more on both sides is for the rounding of the step itself. Of
        what is not there nothing is in doubt.
        """
        there = np.isfinite(self.scores)
        score = torch.from_numpy(np.where(there, self.scores, 0).astype(np.float64))
        for step in (_steps(score - 2 * self.error) - 1, _steps(score + 2 * self.error) + 2):
            yield np.where(there, step.clamp_(min=1).numpy(), STEPS)

    def _doubt(
        self,
        keys: NDArray,
        begin: NDArray[np.int64],
        doubtful: NDArray[np.int64],
        start: int,
    ) -> None:
        """Keep those in doubt: from `begin` on in the keys, so many for each relevant one, (B, R).

        Args:
            keys: of a tile of the gallery, with places in it.
            begin: (B, R).
            doubtful: (B, R).
            start: the gallery row of the tile's first item.
        """
        counts = doubtful.ravel()
        which = np.repeat(np.arange(counts.size), counts)
        before = np.cumsum(counts) - counts
        taken = keys[begin.ravel()[which] + np.arange(len(which)) - before[which]]
        self.doubts.append((which, (taken.astype(np.int64) & (PLACES - 1)) + start))
        if sum(len(each) for each, _ in self.doubts) > DOUBTS:
            self._settle_doubts()

    def _settle_doubts(self) -> None:
        """Count who is in doubt and does score as high."""
        if not self.doubts:
            return
        which, row = (np.concatenate(parts) for parts in zip(*self.doubts, strict=True))
        self.doubts.clear()
        wanted = np.zeros(self.scores.shape, bool)
        wanted.flat[which] = True
        query = which // max(1, self.scores.shape[1])
        exact = pair_scores(self.queries.vectors, self.gallery.vectors, query, row)
        reached = exact >= self._exactly(wanted)[which]
        found = np.bincount(which[reached], minlength=wanted.size)
        self.ahead[:] += found.reshape(wanted.shape)

    def _all_exactly(self, products: Tensor, start: int) -> NDArray[np.int64]:
        """How many items score as high, from exact scores of all pairs, (B, R)."""
        items = self.gallery.vectors[start : start + products.shape[1]]
        scores = all_scores(self.queries.vectors, items)
        scores[(products == RELEVANT).numpy()] = -np.inf
        _sort_rows(scores)
        relevant = self._exactly(np.isfinite(self.scores)).reshape(self.scores.shape)
        below = torch.searchsorted(torch.from_numpy(scores), torch.from_numpy(relevant))
        return len(items) - below.numpy()

    def _exactly(self, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The exact scores of some relevant items, (B x R,); of the others, minus infinity."""
        scores = np.full(wanted.size, -np.inf, np.float32)
        place = np.flatnonzero(wanted)
        rows = self.items.ravel()[place].astype(np.int64)
        query = place // max(1, wanted.shape[1])
        scores[place] = pair_scores(self.queries.vectors, self.gallery.vectors, query, rows)
        return scores


def _steps(products: Tensor) -> Tensor:
    """Products -> int64 steps in [1, STEPS - 1], in the same order."""
    return ((products + 1) * (STEPS // 2)).clamp_(1, STEPS - 1).to(torch.int64)


def _places(keys: NDArray[np.int32], step: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many keys of a row have a lower step, (B, R)."""
    limit = torch.from_numpy(step << PLACE)
    highest = torch.iinfo(torch.int32).max
    found = torch.searchsorted(torch.from_numpy(keys), limit.clamp(max=highest).to(torch.int32))
    return torch.where(limit > highest, keys.shape[1], found).numpy()


def _found(keys: NDArray[np.int64], limit: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many keys are lower; torch searches with all threads."""
    return torch.searchsorted(torch.from_numpy(keys), torch.from_numpy(limit)).numpy()


def _sort_rows(table: NDArray) -> None:
    """Each row, in place; numpy sorts several times faster than torch, but alone."""
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(lambda part: part.sort(axis=1), np.array_split(table, count)))
