"""A store: what holds vectors under ids, with columns, and finds the nearest. Five verbs.

`FaissFolder` is the default; another engine is a class with these five verbs, and nothing else
knows which one is used.
"""

from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Store(Protocol):
    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], columns: pa.Table) -> None:
        """Hold N new vectors; durable when it returns.

        Args:
            ids: (N,), none of which is held.
            vectors: (N, D) of length 1.
            columns: N rows, for filters.
        """
        ...

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget the vectors of these ids; durable when it returns. Unknown ids are skipped."""
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

    def __len__(self) -> int:
        """How many vectors are held."""
        ...

    def close(self) -> None:
        """Give back what is held open; nothing else may be called afterwards."""
        ...
