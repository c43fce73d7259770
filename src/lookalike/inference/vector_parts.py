"""Parts of an embedding: Parquet files with a row and a vector for each image."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.files import write_text, writing
from lookalike.retrieval.store import Store

VECTOR = "vector"
NOTES = b"lookalike"  # of the network, in the metadata of every part
PLAN = "embedding.json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class VectorPart:
    """The images of a part.

    ids: (N,) int64.
    vectors: (N, D) float32, of length 1.
    columns: N rows, the ids among them.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    columns: pa.Table


def part_file(folder: Path, number: int, count: int) -> Path:
    """Where a part lies.

    >>> part_file(Path("out"), 7, 123).name
    'part-00007-of-00123.parquet'
    """
    return folder / f"part-{number:05d}-of-{count:05d}.parquet"


def write_part(
    file: Path, columns: pa.Table, vectors: NDArray[np.float32], notes: Mapping[str, Any]
) -> None:
    """Write a part, whole or not at all.

    Args:
        file: of `part_file`.
        columns: N rows.
        vectors: (N, D) of length 1.
        notes: of the network, as plain data.
    """
    from pyarrow import parquet

    flat = pa.array(np.ascontiguousarray(vectors).ravel(), pa.float32())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = columns.append_column(VECTOR, column)
    table = table.replace_schema_metadata({NOTES: json.dumps(dict(notes))})
    packed: Any = dict.fromkeys(columns.column_names, "zstd")  # vectors do not compress
    with writing(file, "wb") as stream:
        parquet.write_table(table, stream, compression=packed)


def begin_parts(folder: Path, plan: Mapping[str, Any]) -> None:
    """Note what a folder is for, or compare it with what was noted.

    Raises:
        InputError: the folder was begun with another network or other images.
    """
    file, wanted = folder / PLAN, dict(plan, format=FORMAT)
    if not file.is_file():
        write_text(file, json.dumps(wanted, indent=2) + "\n")
        return
    found = read_plan(folder)
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        raise InputError(
            f"{folder} was begun with other {' and '.join(different)} than now (see {PLAN} in it). "
            "Give another out=, or the command that began it."
        )


def read_plan(folder: Path) -> dict[str, Any]:
    """What `begin_parts` noted.

    Raises:
        InputError: there is none, or it can't be read.
    """
    try:
        return dict(json.loads((folder / PLAN).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(
            f"{folder.resolve()} holds no parts of `lookalike embed`: there is no {PLAN} in it"
        ) from None
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{folder / PLAN} can't be read: {error}") from error


def read_parts(folder: str | Path) -> Iterator[VectorPart]:
    """Every part that `lookalike embed` wrote, one at a time.

    Raises:
        InputError: there are none, some are missing, or one can't be read.
    """
    folder = Path(folder)
    count = int(read_plan(folder)["parts"])
    files = [part_file(folder, number, count) for number in range(count)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of the {count} parts in {folder} are missing, the first is "
            f"{missing[0]}. Start `lookalike embed` again: it goes on with them."
        )
    yield from map(_read, files)


def load_parts(folder: str | Path, store: Store) -> int:
    """Put all parts into a store, whichever it is; returns how many images that were.

        load_parts("vectors", MilvusStore("milvus.db", 1280))

    Args:
        folder: that `lookalike embed` wrote.
        store: holds none of these ids.
    """
    count = 0
    for part in read_parts(folder):
        if len(part.ids):
            store.add(part.ids, part.vectors, part.columns)
        count += len(part.ids)
    return count


def missing_parts(folder: Path, count: int, shard: Sequence[int] = (0, 1)) -> list[int]:
    """The parts that are not there yet, of those that a process has to do.

    Args:
        folder: of the parts.
        count: of all parts.
        shard: i, n: every n-th part from the i-th on.
    """
    mine = range(shard[0], count, shard[1])
    return [number for number in mine if not part_file(folder, number, count).is_file()]


def _read(file: Path) -> VectorPart:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            table = opened.read().combine_chunks()
        column = table[VECTOR].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(table.num_rows, column.type.list_size)
        ids = table["id"].to_numpy()
    except (OSError, KeyError, AttributeError, pa.ArrowException) as error:
        raise InputError(
            f"{file} can't be read as a part ({error}). Remove it, and start `lookalike embed` "
            "again."
        ) from error
    return VectorPart(ids, vectors, table.drop_columns([VECTOR]).replace_schema_metadata(None))
