"""Duplicates: images that are in a data set several times, equal byte for byte or nearly so.

A duplicate under another class is a wrong label; one in another split makes a score too good.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.data.decoding import as_image
from lookalike.data.images import ImageFiles, files_of
from lookalike.data.lists import write_list
from lookalike.data.records import Records
from lookalike.progress import track

SIDE = 16  # of the thumbnails that are compared, pixels
# Root mean square of the difference of two thumbnails' values in 0..255, up to which images are
# near. Copies of 2/3 the size in JPEG quality 75 of 200 photographs (flowers, furniture) differ by
# 4.3 at most; of all other pairs of 3000 photographs one is below 6, two shots of the same flower.
DIFFERENCE = 6.0
BLOCK = 1024  # images compared with all others at once
COLUMNS = ("path", "class_name", "split", "original", "original_class", "original_split")


@dataclass(frozen=True)
class Duplicate:
    """An image that is there already.

    row: its record id.
    original: an earlier record of the same content: the first, or the nearest.
    difference: root mean square between thumbnails of both, in 0..255; 0 for equal files.
    """

    row: int
    original: int
    difference: float = 0.0


def exact_duplicates(records: Records) -> list[Duplicate]:
    """The images whose files, and boxes, are equal to earlier ones byte for byte."""
    same_size = defaultdict(list)
    for row, path in enumerate(records.paths):
        box = None if records.boxes is None else tuple(records.boxes[row].tolist())
        same_size[os.path.getsize(path), box].append(row)
    found = []
    for rows in same_size.values():
        first: dict[bytes, int] = {}
        for row in rows if len(rows) > 1 else ():
            original = first.setdefault(_digest(str(records.paths[row])), row)
            found += [Duplicate(row, original)] if original != row else []
    return sorted(found, key=lambda each: each.row)


def near_duplicates(records: Records, difference: float = DIFFERENCE) -> list[Duplicate]:
    """The images that look like earlier ones: copies of another size or quality, or nearly equal.

    Thumbnails of 16 x 16 pixels are compared, all with all.

    Args:
        records: whose images can all be read.
        difference: of the thumbnails at most, see `Duplicate`.
    """
    thumbnails = _thumbnails(files_of(records))
    squares = np.square(thumbnails).sum(1)
    found = []
    for start in range(0, len(thumbnails), BLOCK):
        block = slice(start, start + BLOCK)
        earlier = slice(0, start + len(thumbnails[block]))
        products = thumbnails[block] @ thumbnails[earlier].T
        means = (squares[block, None] + squares[None, earlier] - 2 * products) / thumbnails.shape[1]
        means[np.triu_indices(len(means), start, means.shape[1])] = np.inf  # itself and later ones
        for place in np.flatnonzero(means.min(1) <= difference**2):
            original = int(means[place].argmin())
            nearest = float(np.sqrt(max(means[place, original], 0)))
            found.append(Duplicate(start + int(place), original, nearest))
    return found


def write_duplicates(file: Path, records: Records, duplicates: Sequence[Duplicate]) -> None:
    """A table with a row for each duplicate: where it is, where the first one is, and how much
    they differ."""
    rows = [
        (
            *_described(records, each.row),
            *_described(records, each.original),
            f"{each.difference:.2f}",
        )
        for each in duplicates
    ]
    write_list(file, (*COLUMNS, "difference"), rows)


def summary(records: Records, duplicates: Sequence[Duplicate]) -> str:
    """How many images are duplicates, and how many cross classes or splits."""
    rows, originals = (
        np.array([getattr(each, name) for each in duplicates], dtype=np.int64)
        for name in ("row", "original")
    )
    classes = int((records.labels[rows] != records.labels[originals]).sum())
    splits = int((records.splits[rows] != records.splits[originals]).sum())
    return (
        f"{len(duplicates)} of {len(records)} images are duplicates of others: {classes} in "
        f"another class, {splits} in another split"
    )


def _described(records: Records, row: int) -> tuple[str, str, str]:
    path, split = os.path.abspath(str(records.paths[row])), str(records.splits[row])
    return path, records.class_names[records.labels[row]], split


def _digest(path: str) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _thumbnails(files: ImageFiles) -> NDArray[np.float32]:
    """(N, 16 * 16 * 3) around 0."""

    def thumbnail(row: int) -> NDArray[np.float32]:
        small = as_image(files[row]).resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(small, np.float32).ravel() - 127.5

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(thumbnail, range(len(files)))
        return np.stack(list(track(made, "Making thumbnails", total=len(files))))
