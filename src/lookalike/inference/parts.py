"""Embedded images that are kept until all of a change are: what was killed goes on from them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.data.records import BOX_COLUMNS
from lookalike.files import writing
from lookalike.inference.items import OWN, Key, keys_of_items

KEPT = ("path", *BOX_COLUMNS, "length", "file_size", "file_time", "sha256")
VECTOR = "vector"


class Parts:
    """Files of embedded images, each written whole, for one network.

    Args:
        folder: made with the first part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._facts: dict[Path, pa.Table] = {}

    def write(self, facts: pa.Table, vectors: NDArray[np.float32]) -> None:
        """Keep M images: what is known of their files, and vectors (M, D) of length 1."""
        from pyarrow import parquet

        flat = pa.array(vectors.ravel(), pa.float32())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = facts.select(KEPT).append_column(VECTOR, column)
        last = max((int(file.stem.rpartition("-")[2]) for file in self._files()), default=0)
        with writing(self.folder / f"part-{last + 1:08d}.parquet", "wb") as stream:
            parquet.write_table(table, stream, compression="none", use_dictionary=False)

    def done(self, sizes_and_times: Mapping[Key, tuple[int, int]]) -> set[Key]:
        """The images that are embedded already, if their files are still the same.

        Args:
            sizes_and_times: of the files as they are now, by path and box.
        """
        known = {}
        for facts in self._every_fact().values():
            as_read = zip(
                facts["file_size"].to_pylist(), facts["file_time"].to_pylist(), strict=True
            )
            known.update(zip(keys_of_items(facts), as_read, strict=True))
        return {key for key, now in sizes_and_times.items() if known.get(key) == now}

    def of(self, wanted: set[Key]) -> tuple[pa.Table, "KeptVectors"]:
        """The facts of the images that are wanted, in the order in which they were embedded, and
        their vectors in parts. Of an image that is there twice the last counts."""
        last = {}
        for file, facts in self._every_fact().items():
            for row, key in enumerate(keys_of_items(facts)):
                if key in wanted:
                    last[key] = (file, row)
        rows: dict[Path, list[int]] = {}
        for file, row in sorted(last.values()):
            rows.setdefault(file, []).append(row)
        tables = [self._facts[file].take(pa.array(some)) for file, some in rows.items()]
        nothing = pa.schema([OWN.field(name) for name in KEPT]).empty_table()
        return pa.concat_tables([nothing, *tables]), KeptVectors(rows)

    def clear(self) -> None:
        """Remove all parts, once what they hold is in the index."""
        for file in self._files():
            file.unlink(missing_ok=True)
        if self.folder.is_dir():
            self.folder.rmdir()
        self._facts = {}

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _every_fact(self) -> dict[Path, pa.Table]:
        """Of every part; one that can't be read is removed."""
        from pyarrow import parquet

        schema = pa.schema([OWN.field(name) for name in KEPT])
        for file in self._files():
            if file in self._facts:
                continue
            try:
                self._facts[file] = parquet.read_table(file, columns=list(KEPT)).cast(schema)
            except (OSError, pa.ArrowException, ValueError):
                file.unlink(missing_ok=True)
        return self._facts


class KeptVectors:
    """Vectors (M_i, D) of some rows of some parts, read one part at a time."""

    def __init__(self, rows: Mapping[Path, list[int]]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        from pyarrow import parquet

        for file, rows in self.rows.items():
            column = parquet.read_table(file, columns=[VECTOR])[VECTOR].combine_chunks()
            flat = column.flatten().to_numpy().reshape(len(column), -1)
            yield flat[rows]
