"""Changing an index: one writer at a time, and each change is whole or did not happen."""

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.files import explained, write_text
from lookalike.retrieval.generation import Generation, measured, write_generation
from lookalike.retrieval.item_files import write_items
from lookalike.retrieval.structure import structured
from lookalike.retrieval.vector_file import append_vectors, open_vectors, write_vectors

LOCK, HOLDER = ".lock", ".writer"  # files in the folder
NONE = np.zeros(0, np.int64)

Vectors = NDArray[np.float32]


@contextmanager
def held(folder: Path, wait: float, purpose: str) -> Iterator[None]:
    """Holds an index for one writer. A process that ends, however it ends, holds it no longer.

    Args:
        folder: of the index.
        wait: seconds, for another one that holds it.
        purpose: that others are told.

    Raises:
        InputError: another process holds it, or the folder may not be written to.
    """
    from filelock import FileLock, Timeout  # 0.1 s that readers do without

    lock = FileLock(folder / LOCK)
    with explained(folder, "Give an index that you may write to, or copy it."):
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise InputError(
                f"{_holder(folder)} holds {folder}. Wait until it has ended, or give "
                f"wait=<seconds>, more than {wait:g}."
            ) from None
        about = {"process": os.getpid(), "machine": platform.node(), "purpose": purpose}
        try:
            write_text(folder / HOLDER, json.dumps(about))
            yield
        finally:
            (folder / HOLDER).unlink(missing_ok=True)
            lock.release()


def begin(
    folder: Path,
    dimensions: int,
    files: Sequence[str],
    items: pa.Table,
    vectors: Iterable[Vectors],
    about: dict[str, Any],
    structure: dict[str, Any],
) -> None:
    """Write the first generation.

    Args:
        folder: that is held.
        dimensions: D.
        files: names of files that the owner has put there.
        items: N rows, with their ids, ascending.
        vectors: of these, in parts (N_i, D) of length 1.
        about: what the owner notes.
        structure: see `retrieval.structure`.
    """
    name = "vectors-000001.f32"
    write_vectors(folder / name, vectors)
    nothing = Generation(0, 0, dimensions, 0, name, "", None, structure, about, {})
    _publish(folder, nothing, items, dict.fromkeys([*files, name]), NONE)


def commit(
    folder: Path,
    generation: Generation,
    before: pa.Table,
    held_vectors: Vectors,
    removed: NDArray[np.int64],
    items: pa.Table,
    vectors: Iterable[Vectors],
) -> None:
    """Write the next generation; see `FaissFolder.change`.

    Args:
        folder: that is held.
        generation: the newest.
        before: its items.
        held_vectors: its vectors.
        removed: ids.
        items: new ones, by ascending id.
        vectors: of these, in parts.
    """
    kept = ~np.isin(before["id"].to_numpy(), removed)
    after = pa.concat_tables([before.filter(pa.array(kept)), items], promote_options="permissive")
    known = {name: sums for name, sums in generation.files.items() if name != generation.items}
    fits = bool(np.all(np.diff(after["id"].to_numpy()) > 0))
    if kept.all() and fits:
        shape = (generation.rows, generation.dimensions)
        append_vectors(folder / generation.vectors, shape, vectors)
        _publish(folder, generation, after, known, removed)
        return
    order = np.argsort(after["id"].to_numpy(), kind="stable")
    name = f"vectors-{generation.number + 1:06d}.f32"
    write_vectors(folder / name, _in_order(held_vectors, np.flatnonzero(kept), vectors, order))
    del known[generation.vectors]
    moved = replace(generation, vectors=name)
    _publish(folder, moved, after.take(pa.array(order)), {**known, name: None}, removed)


def restructure(
    folder: Path, generation: Generation, items: pa.Table, structure: dict[str, Any]
) -> None:
    """Write the next generation with the same items in another structure.

    Args:
        folder: that is held.
        generation: the newest.
        items: its items.
        structure: see `retrieval.structure`.
    """
    known = {name: sums for name, sums in generation.files.items() if name != generation.items}
    _publish(folder, replace(generation, structure=structure), items, known, NONE)


def _in_order(
    held_vectors: Vectors,
    kept: NDArray[np.int64],
    new: Iterable[Vectors],
    order: NDArray[np.int64],
    step: int = 2**16,
) -> Iterator[Vectors]:
    """Vectors (N, D) in blocks: those kept and the new ones behind them, in another order."""
    added = np.concatenate([*new, held_vectors[:0]])
    for start in range(0, len(order), step):
        wanted = order[start : start + step]
        old = wanted < len(kept)
        block = np.empty((len(wanted), held_vectors.shape[1]), np.float32)
        block[old] = held_vectors[kept[wanted[old]]]
        block[~old] = added[wanted[~old] - len(kept)]
        yield block


def _publish(
    folder: Path,
    generation: Generation,
    items: pa.Table,
    files: dict[str, Any],
    removed: NDArray[np.int64],
) -> None:
    number = generation.number + 1
    name = f"items-{number:06d}.parquet"
    write_items(folder / name, items)
    ids = items["id"].to_numpy()
    size = len(ids)
    next_id = max(generation.next_id, int(ids.max(initial=-1)) + 1)
    after = replace(generation, number=number, rows=size, next_id=next_id, items=name)
    vectors = open_vectors(folder / after.vectors, (size, after.dimensions))
    after = structured(folder, after, vectors, ids, removed)
    needed = {each: sums for each, sums in files.items() if each != generation.faiss}
    for each in (name, after.faiss):
        if each:
            needed[each] = files.get(each)
    write_generation(folder, replace(after, files=measured(folder, needed)))


def _holder(folder: Path) -> str:
    try:
        about = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"another process ({about['process']} on {about['machine']}, {about['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
