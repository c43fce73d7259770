"""A store in a folder of ordinary files: vectors (mapped), items in Parquet, FAISS's index.

Any number of processes read it while one changes it. A change is one new generation: see
`retrieval.generation`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.device import CPU
from lookalike.errors import InputError
from lookalike.retrieval import flat_search
from lookalike.retrieval.arrow import numbers, taken
from lookalike.retrieval.generation import Generation, check, read_generation
from lookalike.retrieval.inverted import read_faiss
from lookalike.retrieval.inverted_search import InvertedSearch
from lookalike.retrieval.item_files import read_items
from lookalike.retrieval.structure import first_structure
from lookalike.retrieval.vector_file import open_vectors
from lookalike.retrieval.where import where as rows_where
from lookalike.retrieval.writing import begin, commit, held, restructure

Vectors = NDArray[np.float32]


class FaissFolder:
    """The vectors of length 1 in a folder, and the items that they belong to.

    Args:
        folder: of an index.
        device: where vectors are compared.

    Raises:
        InputError: there is no index, it is damaged, or a newer lookalike made it.
    """

    def __init__(self, folder: str | Path, device: Any = CPU) -> None:
        self.folder = Path(folder)
        self.device = device
        self.refresh()

    @classmethod
    def create(
        cls, folder: str | Path, dimensions: int, kind: str = "auto", device: Any = CPU
    ) -> Self:
        """A new store that holds nothing yet.

        Args:
            folder: that is made.
            dimensions: D of a vector.
            kind: "auto", "flat", "ivf" or "ivfpq".
            device: where vectors are compared.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        with held(place, 0, "making it"):
            items = pa.table({"id": pa.array([], pa.int64())})
            begin(place, dimensions, [], items, [], {}, first_structure(kind))
        return cls(place, device)

    def refresh(self) -> None:
        """Read the newest generation, after another process has changed the index."""
        for _ in range(4):
            try:
                self._open(read_generation(self.folder))
                break
            except FileNotFoundError:  # a writer was faster
                continue

    def _open(self, generation: Generation) -> None:
        self.columns = read_items(self.folder / generation.items, generation.rows)
        self.ids: NDArray[np.int64] = numbers(self.columns["id"])  # (N,), ascending
        shape = (generation.rows, generation.dimensions)
        self.vectors: Vectors = open_vectors(self.folder / generation.vectors, shape)
        self.generation = generation
        self._flat = flat_search.FlatSearch(self.vectors, self.device)
        self.lists = None if generation.faiss is None else self._inverted(generation)

    def _inverted(self, generation: Generation) -> InvertedSearch:
        index = read_faiss(self.folder / str(generation.faiss))
        return InvertedSearch(index, self.vectors, self.ids, generation.structure)

    @contextmanager
    def alone(self, wait: float = 10.0, purpose: str = "changing it") -> Iterator[Self]:
        """Holds the index, so that no other process changes it meanwhile.

        Args:
            wait: seconds, for another one that holds it.
            purpose: that others are told.

        Raises:
            InputError: another process holds it.
        """
        with held(self.folder, wait, purpose):
            self.refresh()
            yield self

    def __len__(self) -> int:
        return self.generation.rows

    def add(self, ids: NDArray[np.int64], vectors: Vectors, columns: pa.Table) -> None:
        """Hold N new vectors; see `Store`."""
        rest = columns.select([name for name in columns.column_names if name != "id"])
        items = rest.add_column(0, "id", pa.array(ids, pa.int64()))
        with self.alone():
            self.change(np.zeros(0, np.int64), items, [vectors])

    def remove(self, ids: NDArray[np.int64] | None = None, where: str | None = None) -> None:
        """Forget the vectors of these ids, or those that a filter keeps; see `Store`."""
        with self.alone():
            if where is not None:
                ids = self.ids[rows_where(where, self.columns)]
            if ids is not None:
                self.change(ids, self.columns.slice(0, 0), [])

    def items(self, ids: NDArray[np.int64]) -> pa.Table:
        """The columns of these ids; see `Store`."""
        rows = self.rows_of(ids)
        return taken(self.columns, rows[rows >= 0])

    def change(
        self,
        removed: NDArray[np.int64],
        items: pa.Table,
        vectors: Iterable[Vectors],
        about: dict[str, Any] | None = None,
        before: pa.Table | None = None,
    ) -> None:
        """Remove some items and add others as one change; only while it is held `alone`.

        Args:
            removed: ids.
            items: M rows that are new, with their ids, ascending; they may be those of `removed`.
            vectors: of these, in parts (M_i, D) of length 1.
            about: what the owner notes from now on.
            before: the items that are held, with other columns from now on.
        """
        noted = self.generation if about is None else replace(self.generation, about=about)
        columns = self.columns if before is None else before
        commit(self.folder, noted, columns, self.vectors, removed, items, vectors)
        self.refresh()

    def search(
        self, vectors: Vectors, k: int, where: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `k` nearest of every query; see `Store`."""
        kept = None if where is None else rows_where(where, self.columns)
        rows, scores = self.nearest(vectors, k, kept)
        ids = self.ids.take(rows)
        if rows.shape[1] == k:
            return ids, scores
        none = ((0, 0), (0, k - rows.shape[1]))
        return (
            np.pad(ids, none, constant_values=-1),
            np.pad(scores, none, constant_values=-np.inf),
        )

    def nearest(
        self, vectors: Vectors, k: int, kept: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and cosine similarities of the nearest, (Q, min(k, N)).

        Args:
            vectors: (Q, D) of length 1.
            k: of each query.
            kept: (N,), the rows that count; by default all.
        """
        if self.lists is None:
            return self._flat.nearest(vectors, k, kept)
        return self.lists.nearest(vectors, k, kept)

    def exactly(self, vectors: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same of all rows, whatever the structure, by comparing all."""
        return self._flat.nearest(vectors, k)

    def restructure(self, **settings: Any) -> None:
        """Change settings of the structure ("wanted", "lists", "probes"); only while it is held
        `alone`."""
        structure = {**self.generation.structure, **settings}
        restructure(self.folder, self.generation, self.columns, structure)
        self.refresh()

    def closest(
        self, features: Vectors, k: int, kept: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and negated Euclidean distances of the nearest before normalisation, exactly.

        Args:
            features: (Q, D), not normalised.
            k: of each query.
            kept: (N,), the rows that count; by default all.
        """
        lengths = numbers(self.columns["length"])
        return flat_search.closest(features, self.vectors, lengths, k, kept)

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where items stand, by their ids; -1 where there is none of that id."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        rows = np.searchsorted(self.ids, ids).clip(max=len(self) - 1)
        return np.where(self.ids[rows] == ids, rows, -1)

    def check(self) -> None:
        """Compare all that is stored with its checksums.

        Raises:
            InputError: a file is damaged.
        """
        check(self.folder, self.generation)
        lengths = np.linalg.norm(self.vectors, axis=1)
        if not np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0)):
            raise InputError(f"{self.folder}: vectors are not of length 1. Build the index again.")

    def close(self) -> None:
        """Give back the mapped files."""
        del self.vectors, self._flat, self.lists
