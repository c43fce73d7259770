"""Vectors in a file: float32 rows without a head, mapped when read, appended to when they grow."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.files import appending, writing

Vectors = NDArray[np.float32]
BYTES = 4  # of a float32


def open_vectors(file: Path, shape: tuple[int, int]) -> Vectors:
    """The first N vectors of a file (N, D), mapped."""
    if not shape[0]:
        return np.zeros(shape, np.float32)  # an empty file can't be mapped
    return np.asarray(np.memmap(file, "<f4", "r", shape=shape))


def write_vectors(file: Path, parts: Iterable[Vectors]) -> None:
    """Write parts (N_i, D) below each other, whole or not at all."""
    with writing(file, "wb") as stream:
        for part in parts:
            stream.write(_bytes(part))


def append_vectors(file: Path, shape: tuple[int, int], parts: Iterable[Vectors]) -> None:
    """Write parts (N_i, D) behind the first N vectors of a file.

    Args:
        file: that has N vectors, of which none is changed.
        shape: (N, D).
        parts: of length 1.
    """
    with appending(file, shape[0] * shape[1] * BYTES) as stream:
        for part in parts:
            stream.write(_bytes(part))


def _bytes(part: Vectors) -> memoryview:
    if not np.isfinite(part).all():
        raise InputError(
            "the network gives NaN or infinity for some images: its training has diverged. Use an "
            "earlier checkpoint, or train again with a lower learning rate."
        )
    return memoryview(np.ascontiguousarray(part, "<f4")).cast("B")
