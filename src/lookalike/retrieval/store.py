"""A store: what holds vectors under ids, with columns, and finds the nearest.

`FaissFolder` is the default; another engine is a class with these verbs, and nothing else knows
which one is used.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError


class Store(Protocol):
    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], columns: pa.Table) -> None:
        """Hold N new vectors; durable when it returns.

        Args:
            ids: (N,), none of which is held.
            vectors: (N, D) of length 1.
            columns: N rows, for filters.
        """
        ...

    def remove(self, ids: NDArray[np.int64] | None = None, where: str | None = None) -> None:
        """Forget the vectors of these ids, or those that a filter keeps; durable when it returns.

        Args:
            ids: unknown ones are skipped.
            where: as in `search`; give one of the two.
        """
        ...

    def search(
        self, vectors: NDArray[np.float32], k: int, where: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `k` nearest of every query (Q, D), of those that a filter keeps.

        Args:
            vectors: (Q, D) of length 1.
            k: at least 1.
            where: a filter on the columns, see `retrieval.where`.

        Returns:
            ids (Q, k), -1 where there are no more, and cosine similarities (Q, k), descending.
        """
        ...

    def items(self, ids: NDArray[np.int64]) -> pa.Table:
        """The columns of these ids, "id" among them, in any order; unknown ones are left out."""
        ...

    def __len__(self) -> int:
        """How many vectors are held."""
        ...

    def close(self) -> None:
        """Give back what is held open; nothing else may be called afterwards."""
        ...


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a database as a table; what a row lacks is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def other_dimensions(collection: str, found: int, wanted: int) -> InputError:
    """What a database says whose collection holds vectors of another network."""
    return InputError(
        f"the collection {collection} holds vectors of {found} dimensions, not {wanted}: they are "
        "of another network. Give another collection."
    )
