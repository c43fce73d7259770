"""The structure of an index: whether all vectors are compared, or FAISS's inverted lists are kept.

What is added after FAISS's file was written is compared exactly, until that is a share of all.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.generation import Generation
from lookalike.retrieval.inverted import (
    FIRST_PROBES,
    cells_for,
    check_kind,
    chosen_kind,
    fill,
    read_faiss,
    trained,
    without,
    write_faiss,
)

BESIDE = 0.02  # share of items that may stand beside FAISS's file
BESIDE_AT_LEAST = 10_000  # items that always may
RETRAINED = 4  # times as many items as the centroids were trained for

Vectors = NDArray[np.float32]


def first_structure(wanted: str, lists: int | None = None) -> dict[str, Any]:
    """Of an index that holds nothing yet.

    Args:
        wanted: "auto", "flat", "ivf" or "ivfpq".
        lists: cells of inverted lists; by default by the number of items.
    """
    check_kind(wanted)
    return {"wanted": wanted, "kind": "flat", "lists": lists}


def structured(
    folder: Path,
    generation: Generation,
    vectors: Vectors,
    ids: NDArray[np.int64],
    removed: NDArray[np.int64],
) -> Generation:
    """A generation with FAISS's file as it must be for these vectors.

    Args:
        folder: of the index.
        generation: the next, whose `faiss` is that of the one before.
        vectors: (N, D), all.
        ids: (N,), ascending.
        removed: ids that have left or got another vector.
    """
    structure = generation.structure
    kind = chosen_kind(structure["wanted"], len(ids))
    if kind == "flat":
        return replace(generation, faiss=None, structure={**structure, "kind": "flat"})
    if generation.faiss is None or _is_outdated(structure, kind, len(ids)):
        index = trained(vectors, kind, structure["lists"])
        fill(index, vectors, ids)
        trained_now = {
            "kind": kind,
            "cells": index.nlist,
            "trained": len(ids),
            "probes": structure.get("probes", FIRST_PROBES),
        }
        return _written(folder, generation, index, ids, {**structure, **trained_now})
    beside = ids >= structure["covered"]
    if not len(removed) and beside.sum() <= max(BESIDE_AT_LEAST, BESIDE * len(ids)):
        return generation
    index = read_faiss(folder / generation.faiss, mapped=False)
    without(index, removed)
    new = beside | np.isin(ids, removed)
    fill(index, vectors[new], ids[new])
    return _written(folder, generation, index, ids, structure)


def _is_outdated(structure: dict[str, Any], kind: str, rows: int) -> bool:
    """Whether lists must be trained again: others are wanted, or the index has grown a lot."""
    return (
        structure["kind"] != kind
        or rows > RETRAINED * structure["trained"]
        or cells_for(structure["trained"], structure["lists"]) != structure["cells"]
    )


def _written(
    folder: Path,
    generation: Generation,
    index: Any,
    ids: NDArray[np.int64],
    structure: dict[str, Any],
) -> Generation:
    name = f"faiss-{generation.number:06d}.index"
    write_faiss(folder / name, index)
    covered = int(ids.max(initial=-1)) + 1
    return replace(generation, faiss=name, structure={**structure, "covered": covered})
