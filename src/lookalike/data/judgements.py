"""Relevance judgements: which gallery images answer a query, pair by pair.

Data sets of landmarks and objects come with such lists (as TREC's qrels): an image may answer one
query and not another of the same landmark, and some images are neither right nor wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError


@dataclass(frozen=True, eq=False)
class Judgements:
    """P pairs of a query and a gallery image, ordered by both; all other images are irrelevant.

    queries: (P,) int64, record ids.
    items: (P,) int64, record ids of gallery images.
    relevant: (P,) bool; False for junk, which is left out of the query's ranking.
    name: of the setup, such as "hard"; empty where there is one only.

    Raises:
        InputError: a pair is judged twice.
    """

    queries: NDArray[np.int64]
    items: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    name: str = ""

    def __post_init__(self) -> None:
        order = np.lexsort((self.items, self.queries))
        for column in ("queries", "items", "relevant"):
            object.__setattr__(self, column, getattr(self, column)[order])
        pairs = np.stack([self.queries, self.items])
        twice = np.flatnonzero((pairs[:, 1:] == pairs[:, :-1]).all(axis=0))
        if len(twice):
            query, item = pairs[:, twice[0]].tolist()
            raise InputError(f"image {item} is judged twice for query {query} (numbers of records)")

    @classmethod
    def of_lists(
        cls,
        queries: Sequence[int],
        relevant: Sequence[Sequence[int]],
        junk: Sequence[Sequence[int]] | None = None,
        name: str = "",
    ) -> "Judgements":
        """Judgements from lists of gallery images, two for each query.

        Args:
            queries: record ids.
            relevant: of each query, record ids.
            junk: of each query, record ids; None for none.
            name: of the setup.

        >>> found = Judgements.of_lists([7], relevant=[[2, 1]], junk=[[3]])
        >>> found.items.tolist(), found.relevant.tolist()
        ([1, 2, 3], [True, True, False])
        """
        lists = [*relevant, *(junk or [])]
        asked = [*queries, *(queries if junk else [])]
        counts = [len(each) for each in lists]
        items = np.array([item for each in lists for item in each], dtype=np.int64)
        answers = np.arange(len(items)) < sum(len(each) for each in relevant)
        return cls(np.repeat(np.array(asked, dtype=np.int64), counts), items, answers, name)

    @property
    def suffix(self) -> str:
        """What stands behind the names of this setup's metrics, such as "_hard"."""
        return f"_{self.name}" if self.name else ""

    def among(self, rows: NDArray[np.int64], length: int) -> "Judgements":
        """What is said of some records, which get new ids: their positions in `rows`.

        Args:
            rows: ids of the records that are kept.
            length: number of all records until now.
        """
        new = np.full(length, -1)
        new[rows] = np.arange(len(rows))
        kept = (new[self.queries] >= 0) & (new[self.items] >= 0)
        queries, items = new[self.queries[kept]], new[self.items[kept]]
        return Judgements(queries, items, self.relevant[kept], self.name)
