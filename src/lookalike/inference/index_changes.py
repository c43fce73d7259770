"""Changes of an index: build, add, remove, update. Each ends with one new generation, or with none.

What is embedded is kept in parts at once. A change that was killed before its end is given again,
and goes on from them.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.inference.checkpoint import (
    KEY,
    Checkpoint,
    read_checkpoint,
    weights_alone,
    write_content,
)
from lookalike.inference.embedding_items import (
    Reading,
    embed_items,
    size_and_time,
    tell_problems,
)
from lookalike.inference.items import (
    LISTED,
    OWN,
    Key,
    common_folder,
    joined,
    keys_of_items,
    listed_items,
    relative_paths,
)
from lookalike.inference.parts import KEPT, Parts
from lookalike.inference.streaming import read_with_facts
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.generation import FILE
from lookalike.retrieval.where import where as rows_where
from lookalike.retrieval.writing import LOCK, begin, held

if TYPE_CHECKING:
    from lookalike.inference.index import Index

log = logging.getLogger(__name__)

NETWORK = "network.ckpt"  # in the folder
PARTS = "parts"  # folder of what is embedded and not yet in the index


def build(
    folder: Path,
    places: Sequence[str],
    network: str | Path | Mapping[str, Any],
    device: torch.device,
    trust: Sequence[str],
    engine: EmbeddingEngine,
    reading: Reading,
    wait: float = 10.0,
) -> None:
    """Write a new index; see `Index.build`."""
    content = network if isinstance(network, Mapping) else weights_alone(Path(network))
    _check_place(folder)
    items = listed_items(places)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, wait, "building it"):
        _check_place(folder)
        checkpoint = _network(folder, content, trust)
        parts = Parts(folder / PARTS)
        compute = engine.faster(checkpoint.embedder().to(device), "unnormalised")
        problems = embed_items(compute, checkpoint.transform(), items, parts, device, reading)
        tell_problems(problems, items.num_rows)
        facts, vectors = parts.of(set(keys_of_items(items)) - set(problems))
        root = common_folder(items)
        about = {
            "root": root,
            "sources": [list(places)],
            "network": checkpoint.config["name"],
            "fingerprint": checkpoint.fingerprint(),
        }
        new = _with_ids(_completed(facts, items), np.arange(facts.num_rows))
        dimensions = next(iter(vectors)).shape[1]
        begin(folder, dimensions, [NETWORK], relative_paths(new, root), vectors, about)
        parts.clear()


def add(index: "Index", places: Sequence[str], wait: float) -> dict[str, int]:
    """Embed more images; see `Index.add`."""
    items = listed_items(places)
    with index.store.alone(wait, "adding to it"):
        sources = index.store.generation.about["sources"]
        known = sources if list(places) in sources else [*sources, list(places)]
        return _change(index, items, {}, known)


def update(index: "Index", wait: float) -> dict[str, int]:
    """Look again at the sources; see `Index.update`."""
    with index.store.alone(wait, "updating it"):
        sources = index.store.generation.about["sources"]
        items = joined([listed_items(_moved(index, places)) for places in sources])
        here = set(keys_of_items(items))
        gone = {key: id for key, id in _ids_by_key(index).items() if key not in here}
        return _change(index, items, gone, sources)


def remove(index: "Index", where: str | None, ids: Sequence[int], wait: float) -> dict[str, int]:
    """Forget items; see `Index.remove`.

    Raises:
        InputError: nothing is named, or there is no item of an id.
    """
    if where is None and not len(ids):
        raise InputError("say what to remove: where=\"class == 'bed'\", or ids=[3,17]")
    with index.store.alone(wait, "removing from it"):
        store = index.store
        unknown = np.setdiff1d(np.array(ids, np.int64), store.ids)
        if len(unknown):
            raise InputError(f"no item has the id {unknown[0]}; nothing was removed")
        out = np.isin(store.ids, np.array(ids, np.int64)) if len(ids) else np.ones(len(store), bool)
        if where is not None:
            out &= rows_where(where, store.columns)
        if out.any():
            store.change(store.ids[out], store.columns.slice(0, 0), [])
        return {"removed": int(out.sum()), "left": len(store)}


def _change(
    index: "Index", items: pa.Table, gone: dict[Key, int], sources: list[list[str]]
) -> dict[str, int]:
    """Bring the index to what is listed; `gone` leave."""
    store, parts = index.store, Parts(index.store.folder / PARTS)
    ids = _ids_by_key(index)
    keys = keys_of_items(items)
    same, touched = _unchanged(index, keys, ids)
    left = items.filter(pa.array([key not in same for key in keys]))
    problems: dict[Key, str] = {}
    if left.num_rows:
        embed = index.embedder
        problems = embed_items(
            embed.compute, embed.transform, left, parts, index.device, index.reading
        )
        tell_problems(problems, left.num_rows + len(same))
    facts, vectors = parts.of(set(keys_of_items(left)) - set(problems))
    found = keys_of_items(facts)
    fresh = iter(range(store.generation.next_id, store.generation.next_id + len(found)))
    given = np.array([ids[key] if key in ids else next(fresh) for key in found], np.int64)
    replaced = np.array([ids[key] for key in found if key in ids], np.int64)
    unreadable = np.array([ids[key] for key in problems if key in ids], np.int64)
    leaving = np.array(list(gone.values()), np.int64)
    new = relative_paths(_with_ids(_completed(facts, items), given), _root(index))
    about = store.generation.about | {"sources": sources, "root": _root(index)}
    before = _refreshed(index, items, keys, same, ids, touched)
    removed = np.concatenate([replaced, leaving, unreadable])
    if len(found) or len(removed) or before is not store.columns or about != store.generation.about:
        store.change(removed, new, vectors, about, before)
    parts.clear()
    return {
        "added": len(found) - len(replaced),
        "changed": len(replaced),
        "removed": len(leaving) + len(unreadable),
        "unchanged": len(same),
    }


def _unchanged(
    index: "Index", keys: Sequence[Key], ids: Mapping[Key, int]
) -> tuple[set[Key], dict[int, tuple[int, int]]]:
    """The items whose files hold what they held; and size and time by id, where these are new."""
    rows = index.store.rows_of(np.array([ids.get(key, -1) for key in keys], np.int64))
    names = ("file_size", "file_time", "sha256")
    sizes, times, digests = (index.items[name].to_pylist() for name in names)
    same, touched = set(), {}
    for key, row in zip(keys, rows.tolist(), strict=True):
        now = size_and_time(key[0])
        if row < 0:
            continue
        if now == (sizes[row], times[row]):
            same.add(key)
        elif now[0] == sizes[row] and _digest(key[0]) == digests[row]:
            same.add(key)
            touched[ids[key]] = now
    return same, touched


def _digest(path: str) -> str:
    try:
        return read_with_facts(Path(path))[0].digest
    except OSError:
        return ""


def _refreshed(
    index: "Index",
    items: pa.Table,
    keys: Sequence[Key],
    same: set[Key],
    ids: Mapping[Key, int],
    touched: Mapping[int, tuple[int, int]],
) -> pa.Table:
    """The items that stay, with the classes and columns that are listed now; the same table where
    nothing is different."""
    held_items = index.store.columns
    rows = [row for row, key in enumerate(keys) if key in same]
    if not rows:
        return held_items
    listed = items.take(pa.array(rows)).append_column(
        "id", pa.array([ids[keys[row]] for row in rows], pa.int64())
    )
    listed = listed.drop_columns([name for name in LISTED if name != "class"])
    place = index.store.rows_of(listed["id"].to_numpy())
    result = held_items
    for name in listed.column_names:
        if name != "id":
            result = _with_values(result, name, place, listed[name])
    for name, which in (("file_size", 0), ("file_time", 1)):
        changed = np.array(list(touched), np.int64)
        values = pa.array([touched[id][which] for id in touched], pa.int64())
        result = _with_values(result, name, index.store.rows_of(changed), values)
    return held_items if result.equals(held_items) else result


def _with_values(
    table: pa.Table, name: str, rows: NDArray[np.int64], values: pa.Array | pa.ChunkedArray
) -> pa.Table:
    """A table with other values in some rows of a column, which may be new."""
    if not len(rows):
        return table
    if name not in table.column_names:
        table = table.append_column(name, pa.nulls(table.num_rows, values.type))
    if table[name].type == pa.null():
        table = table.set_column(table.column_names.index(name), name,
                                 pa.nulls(table.num_rows, values.type))  # fmt: skip
    try:
        both = pa.concat_arrays(
            [
                table[name].combine_chunks(),
                pa.chunked_array(values).combine_chunks().cast(table[name].type),
            ]
            if isinstance(values, pa.ChunkedArray)
            else [table[name].combine_chunks(), values.cast(table[name].type)]
        )
    except pa.ArrowException as error:
        raise InputError(
            f"the column {name!r} is {table[name].type} in the index, and {values.type} in the "
            f"table ({error}). Give it one type."
        ) from error
    order = np.arange(table.num_rows)
    order[rows] = table.num_rows + np.arange(len(rows))
    return table.set_column(table.column_names.index(name), name, both.take(pa.array(order)))


def _completed(facts: pa.Table, items: pa.Table) -> pa.Table:
    """What was found of the files, with the class and the columns that are listed."""
    place = {key: row for row, key in enumerate(keys_of_items(items))}
    rows = pa.array([place[key] for key in keys_of_items(facts)], pa.int64())
    listed = items.take(rows)
    for name in listed.column_names:
        if name not in KEPT:
            facts = facts.append_column(name, listed[name])
    return facts


def _with_ids(items: pa.Table, ids: NDArray[np.int64]) -> pa.Table:
    """With ids, lookalike's own columns first."""
    table = items.append_column("id", pa.array(ids, pa.int64()))
    more = [name for name in table.column_names if name not in OWN.names]
    return table.select([*OWN.names, *more])


def _ids_by_key(index: "Index") -> dict[Key, int]:
    """The id of every item, by its absolute path and its box."""
    root = _root(index)
    keys = [(os.path.join(root, path), *box) for path, *box in keys_of_items(index.items)]
    return dict(zip(keys, index.store.ids.tolist(), strict=True))


def _root(index: "Index") -> str:
    return os.path.abspath(index.root)


def _moved(index: "Index", places: Sequence[str]) -> list[str]:
    """The same places where the images have moved."""
    old, new = index.store.generation.about["root"], _root(index)
    inside = [not os.path.relpath(place, old).startswith("..") for place in places]
    return [
        os.path.normpath(os.path.join(new, os.path.relpath(place, old))) if below else place
        for place, below in zip(places, inside, strict=True)
    ]


def _check_place(folder: Path) -> None:
    if (folder / FILE).exists():
        raise InputError(
            f"there is an index at {folder} already. Change it with lookalike index add, update or "
            "remove; or give another out=, or remove the folder."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give another out=")
    others = [child.name for child in folder.glob("*") if child.name not in (NETWORK, PARTS, LOCK)]
    if [name for name in others if not name.startswith((".", "vectors-", "items-"))]:
        raise InputError(f"{folder} holds other files ({others[0]}): give another out=")


def _network(folder: Path, content: Mapping[str, Any], trust: Sequence[str]) -> Checkpoint:
    """The network, written into the folder; that of an earlier start must be the same."""
    file = folder / NETWORK
    if not file.is_file():
        write_content(file, {key: content[key] for key in content if key in _CONTENT})
    found = read_checkpoint(file, trust)
    asked = Checkpoint(file, content[KEY]["config"], content["state_dict"], {}, 0)
    if found.fingerprint() != asked.fingerprint():
        raise InputError(
            f"{folder} was begun with another network ({found.config['name']}), and is not built "
            "yet. Give that network, or remove the folder."
        )
    return found


_CONTENT = (KEY, "state_dict", "pytorch-lightning_version")
