"""Changes of an index: add, remove, update. Each ends with one new generation, or with none.

What is embedded is kept in parts at once. A change that was killed before its end is given again,
and goes on from them.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.inference.embedding_items import embed_items, size_and_time, tell_problems
from lookalike.inference.index_building import PARTS
from lookalike.inference.item_columns import completed, inherited, refreshed, with_ids
from lookalike.inference.items import (
    Key,
    joined,
    keys_of_items,
    listed_items,
    relative_paths,
    without_repeats,
)
from lookalike.inference.parts import Parts
from lookalike.inference.streaming import read_with_facts
from lookalike.retrieval.where import where as rows_where

if TYPE_CHECKING:
    from lookalike.inference.index import Index


def add(index: "Index", places: Sequence[str], wait: float) -> dict[str, int]:
    """Embed more images; see `Index.add`."""
    items = listed_items(places)
    with index.store.alone(wait, "adding to it"):
        sources = index.store.generation.about["sources"]
        known = sources if list(places) in sources else [*sources, list(places)]
        return _change(index, items, (), known)


def update(index: "Index", wait: float) -> dict[str, int]:
    """Look again at the sources; see `Index.update`."""
    if "vectors" in index.store.generation.about:
        raise InputError(
            f"{index.store.folder} was built from vectors={index.store.generation.about['vectors']}"
            ", of which update can't know what is gone. Use index add and index remove."
        )
    with index.store.alone(wait, "updating it"):
        sources = [_moved(index, each) for each in index.store.generation.about["sources"]]
        items = without_repeats(joined([listed_items(places) for places in sources]))
        here = set(keys_of_items(items))
        gone = [number for key, number in _ids_by_key(index).items() if key not in here]
        return _change(index, items, gone, sources)


def remove(index: "Index", where: str | None, ids: Sequence[int], wait: float) -> dict[str, int]:
    """Forget items; see `Index.remove`.

    Raises:
        InputError: nothing is named, or there is no item of an id.
    """
    if where is None and not len(ids):
        raise InputError("say what to remove: where=\"class == 'bed'\", or ids=[3,17]")
    with index.store.alone(wait, "removing from it"):
        store, named = index.store, np.array(ids, np.int64)
        unknown = np.setdiff1d(named, store.ids)
        if len(unknown):
            raise InputError(f"no item has the id {unknown[0]}; nothing was removed")
        out = np.isin(store.ids, named) if len(named) else np.ones(len(store), bool)
        if where is not None:
            out &= rows_where(where, store.columns)
        if out.any():
            store.change(store.ids[out], store.columns.slice(0, 0), [])
        return {"removed": int(out.sum()), "left": len(store)}


def _change(
    index: "Index", listed: pa.Table, gone: Collection[int], sources: list[list[str]]
) -> dict[str, int]:
    """Bring the index to what is listed.

    Args:
        index: that is held.
        listed: items with absolute paths; those that are known keep their ids.
        gone: ids of those that leave.
        sources: that are noted.
    """
    store, parts = index.store, Parts(index.store.folder / PARTS)
    ids = _ids_by_key(index)
    keys = keys_of_items(listed)
    rows = store.rows_of(np.array([ids.get(key, -1) for key in keys], np.int64))
    items = inherited(listed, store.columns, rows)
    same, touched = _unchanged(store.columns, keys, rows)
    left = items.filter(pa.array(~same))
    problems = _embedded(index, left, parts, int(same.sum()))
    facts, vectors = parts.of(set(keys_of_items(left)) - set(problems))
    found = keys_of_items(facts)
    changed = [ids[key] for key in found if key in ids]
    leaving = [*gone, *(ids[key] for key in problems if key in ids)]
    before = refreshed(store.columns, items.filter(pa.array(same)), rows[same], touched)
    about = store.generation.about | {"sources": sources, "root": _root(index)}
    if found or leaving or before is not store.columns or about != store.generation.about:
        numbered = with_ids(completed(facts, items), _ids_of(found, ids, store.generation.next_id))
        new = relative_paths(numbered, _root(index))
        store.change(np.array([*changed, *leaving], np.int64), new, vectors, about, before)
    parts.clear()
    return {
        "added": len(found) - len(changed),
        "changed": len(changed),
        "removed": len(leaving),
        "unchanged": int(same.sum()),
    }


def _embedded(index: "Index", items: pa.Table, parts: Parts, others: int) -> dict[Key, str]:
    """Embed what is not in the parts; returns why some images could not be read."""
    if not items.num_rows:
        return {}
    embed = index.embedder
    problems = embed_items(
        embed.compute, embed.transform, items, parts, index.device, index.reading
    )
    tell_problems(problems, items.num_rows + others)
    return problems


def _ids_of(keys: Sequence[Key], known: Mapping[Key, int], next_id: int) -> NDArray[np.int64]:
    """The ids that items have, and new ones for the others."""
    fresh = iter(range(next_id, next_id + len(keys)))
    return np.array([known[key] if key in known else next(fresh) for key in keys], np.int64)


def _unchanged(
    before: pa.Table, keys: Sequence[Key], rows: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], dict[int, tuple[int, int]]]:
    """Whether each file holds what it held when it was embedded, (N,); and size and time by row
    of the index, of files that were written again with the same content."""
    sizes, times, digests = (
        before[name].to_pylist() for name in ("file_size", "file_time", "sha256")
    )
    same, touched = np.zeros(len(keys), bool), {}
    for place, (key, row) in enumerate(zip(keys, rows.tolist(), strict=True)):
        if row < 0:
            continue
        now = size_and_time(key[0])
        same[place] = now == (sizes[row], times[row])
        if not same[place] and now[0] == sizes[row] and _digest(key[0]) == digests[row]:
            same[place] = True
            touched[row] = now
    return same, touched


def _digest(path: str) -> str:
    try:
        return read_with_facts(Path(path))[0].digest
    except OSError:
        return ""


def _ids_by_key(index: "Index") -> dict[Key, int]:
    """The id of every item, by its absolute path and its box."""
    root = _root(index)
    keys = [(os.path.join(root, path), *box) for path, *box in keys_of_items(index.items)]
    return dict(zip(keys, index.store.ids.tolist(), strict=True))


def _root(index: "Index") -> str:
    return os.path.abspath(index.root)


def _moved(index: "Index", places: Sequence[str]) -> list[str]:
    """The same places, where the images have moved."""
    old, new = index.store.generation.about["root"], _root(index)
    below = [os.path.relpath(place, old) for place in places]
    return [
        place if inside.startswith("..") else os.path.normpath(os.path.join(new, inside))
        for place, inside in zip(places, below, strict=True)
    ]
