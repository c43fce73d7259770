"""The items of an index before they are embedded: images that a user names, with their columns."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lookalike.data.records import BOX_COLUMNS, Records
from lookalike.data.sources.table import OPTIONAL
from lookalike.errors import InputError
from lookalike.inference.images import TABLES, find_labelled
from lookalike.retrieval.arrow import numbers

# what lookalike itself notes of an item; `length` is that of its vector before it got length 1
OWN = pa.schema(
    [
        ("id", pa.int64()),
        ("path", pa.string()),
        ("class", pa.string()),
        *((name, pa.int64()) for name in BOX_COLUMNS),
        ("length", pa.float32()),
        ("file_size", pa.int64()),
        ("file_time", pa.int64()),
        ("sha256", pa.string()),
    ]
)
LISTED = ("path", "class", *BOX_COLUMNS)  # those known before an image is read
NOT_COLUMNS = ("path", "label", *BOX_COLUMNS)  # of a table, what is no column of its own

Key = tuple[Any, ...]  # by which an item is found again: its path and its box


def places_of(images: str | Path | Sequence[str | Path]) -> list[str]:
    """Where the images are that a user names, as absolute paths."""
    every = [images] if isinstance(images, str | Path) else images
    return [os.path.abspath(each) for each in every]


def listed_items(places: Sequence[str]) -> pa.Table:
    """A row for each image, with its absolute path, class and box, and the columns of a table.

    Args:
        places: folders (images in class folders have that class), files, globs, or tables (.csv,
            .parquet).

    Raises:
        InputError: nothing is there, or a table has a column of a name that lookalike needs.
    """
    if not places:
        raise InputError("give images=<folder, file, glob, list of them, or a table>")
    tables = [_listed(place) for place in places]
    return without_repeats(joined(tables))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables below each other; a column that one lacks is null there.

    Raises:
        InputError: a column holds numbers in one and text in another.
    """
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise InputError(
            f"a column is of one type here and of another there ({error}). Give it one type in "
            "all tables."
        ) from error


def keys_of_items(items: pa.Table) -> list[Key]:
    """Of every item its path and its box."""
    return list(zip(*(items[name].to_pylist() for name in ("path", *BOX_COLUMNS)), strict=True))


def without_repeats(items: pa.Table) -> pa.Table:
    """Each image once, the first time."""
    first: dict[Key, int] = {}
    for row, key in enumerate(keys_of_items(items)):
        first.setdefault(key, row)
    return items if len(first) == items.num_rows else items.take(pa.array(list(first.values())))


def records_of(items: pa.Table, root: str | Path = "") -> Records:
    """The items as records, whose ids are the rows.

    Args:
        items: at least one.
        root: folder of relative paths.
    """
    boxes = np.stack([numbers(items[name]) for name in BOX_COLUMNS], axis=1)
    paths = [os.path.join(root, path) for path in items["path"].to_pylist()]
    given = boxes.tolist() if boxes.any() else None
    return Records.create(paths, items["class"].to_pylist(), boxes=given)


def relative_paths(items: pa.Table, root: str) -> pa.Table:
    """The same, with paths below a folder relative to it."""
    above = root.rstrip(os.sep) + os.sep
    paths = [path.removeprefix(above) for path in items["path"].to_pylist()]
    return items.set_column(items.column_names.index("path"), "path", pa.array(paths, pa.string()))


def common_folder(items: pa.Table) -> str:
    """The deepest folder that holds all images."""
    return os.path.commonpath([os.path.dirname(path) for path in items["path"].to_pylist()])


def _listed(place: str) -> pa.Table:
    records = find_labelled(place)
    boxes = np.zeros((len(records), 4), np.int64) if records.boxes is None else records.boxes
    columns = {
        "path": pa.array([os.path.abspath(path) for path in records.paths.tolist()], pa.string()),
        "class": pa.array([records.class_names[label] for label in records.labels], pa.string()),
        **{name: pa.array(boxes[:, number]) for number, name in enumerate(BOX_COLUMNS)},
    }
    if Path(place).suffix.lower() in TABLES and Path(place).is_file():
        columns |= _columns_of(Path(place), columns)
    return pa.table(columns)


def _columns_of(file: Path, known: dict[str, pa.Array]) -> dict[str, pa.ChunkedArray]:
    """What a table has beside paths, labels and boxes; a column "class" without a label is one."""
    table = _read(file)
    more = {name: table[name] for name in table.column_names if name not in NOT_COLUMNS}
    if "label" not in table.column_names and "class" in more:
        known["class"] = more.pop("class").cast(pa.string()).fill_null("")
    for name in more:
        if name in OWN.names:
            raise InputError(
                f"{file} has a column {name!r}, a name that an index needs for itself. Rename it."
            )
        if name not in OPTIONAL and not _is_plain(more[name].type):
            raise InputError(
                f"{file} has {more[name].type} in column {name!r}: give text, numbers or dates."
            )
    if any(len(column) != len(known["path"]) for column in more.values()):
        raise InputError(f"{file} has lines that are no rows: save it without empty lines.")
    return more


def _is_plain(kind: pa.DataType) -> bool:
    tests = ("is_boolean", "is_integer", "is_floating", "is_string", "is_large_string",
             "is_temporal", "is_decimal", "is_null")  # fmt: skip
    return any(getattr(pa.types, test)(kind) for test in tests)


def _read(file: Path) -> pa.Table:
    from pyarrow import csv, parquet

    try:
        if file.suffix.lower() == ".parquet":
            return parquet.ParquetFile(file).read()
        table = csv.read_csv(file)
        return table.rename_columns([name.strip() for name in table.column_names])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"can't read the table {file}: {error}") from error
