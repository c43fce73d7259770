"""Reading: any images that are named on the command line, and a pass over them in order."""

from collections.abc import Sequence
from difflib import get_close_matches
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from lookalike.data.folder import EXTENSIONS, Folder, images_below
from lookalike.data.images import Batch, ImageBatches, ImageFiles
from lookalike.data.records import Records
from lookalike.data.sampling import InOrder
from lookalike.data.table import Table
from lookalike.device import usable_workers
from lookalike.errors import InputError

TABLES = (".csv", ".parquet")


def find_records(places: Sequence[str]) -> Records:
    """Records without classes: the images of folders (at any depth), files and globs, each once;
    or those of one table, with its boxes.

    Raises:
        InputError: nothing is there, or nothing of it is an image by its extension.
    """
    if len(places) == 1 and Path(places[0]).suffix.lower() in TABLES:
        return Table(places[0]).records()
    paths = list(dict.fromkeys(path for place in places for path in _images_at(str(place))))
    if not paths:
        raise InputError(
            "give images=<folder, file, glob, list of them, or a table>, such as images=photos or "
            "images=[a.jpg,b.jpg]"
        )
    return Records.create(paths, [""] * len(paths))


def find_labelled(place: str) -> Records:
    """Records of a table, a folder of class folders, or a folder of images without classes.

    Raises:
        InputError: nothing is there, or nothing of it is an image.
    """
    path = Path(place)
    if path.is_dir() and any(child.is_dir() for child in path.iterdir()):
        return Folder(place).records()
    return find_records([place])


def in_order(
    records: Records, transform: Any, batch_size: int, num_workers: int | None
) -> DataLoader[Batch]:
    """Every image once, in order of id, as a transform views it; null workers: one a core."""
    return DataLoader(
        ImageBatches(files_of(records, transform.short_side), records.labels, transform),
        sampler=InOrder(np.arange(len(records)), batch_size),
        batch_size=None,  # the sampler yields whole batches
        num_workers=usable_workers() if num_workers is None else num_workers,
    )


def files_of(records: Records, short_side: int | None = None) -> ImageFiles:
    """The pictures of records, cropped to their boxes."""
    return ImageFiles(records.paths, short_side, records.boxes)


def _images_at(place: str) -> list[Path]:
    path = Path(place)
    if path.is_dir():
        found = images_below(path)
    elif path.is_file():
        found = [path]
    elif has_magic(place):
        matches = map(Path, sorted(glob(place, recursive=True)))
        found = [match for match in matches if match.suffix.lower() in EXTENSIONS]
    else:
        siblings = [child.name for child in path.parent.glob("*")]
        close = get_close_matches(path.name, siblings, 1)
        hint = f" Did you mean {path.parent / close[0]}?" if close else ""
        raise InputError(f"there is no file or folder {place}.{hint}")
    if not found:
        raise InputError(
            f"no images at {place}; an image's name ends in one of {' '.join(sorted(EXTENSIONS))}"
        )
    return found
