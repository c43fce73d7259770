"""The items of an index in Parquet: one row for each vector, in the same order."""

from pathlib import Path

import pyarrow as pa

from lookalike.errors import InputError
from lookalike.files import writing


def read_items(file: Path, rows: int) -> pa.Table:
    """All items, by ascending id.

    Args:
        file: that `write_items` wrote.
        rows: how many there must be.

    Raises:
        InputError: it is no such file.
        FileNotFoundError: there is none.
    """
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file, memory_map=True).read()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file} can't be read as items of an index ({error}). Copy the index again from where "
            "it came from, or remove the folder and build it again."
        ) from error
    if table.num_rows != rows or "id" not in table.column_names:
        raise InputError(f"{file} has {table.num_rows} items, expected {rows}: build it again.")
    return table.combine_chunks()


def write_items(file: Path, items: pa.Table) -> None:
    """Write them, whole or not at all."""
    from pyarrow import parquet

    with writing(file, "wb") as stream:
        parquet.write_table(items, stream, compression="zstd")
