"""Any images that a user names: files, folders, globs, a table."""

import logging
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from lookalike.data.formats import extensions
from lookalike.data.records import Records
from lookalike.data.sources.files import Skipped, images_below, is_image
from lookalike.data.sources.folder import Folder
from lookalike.data.sources.table import Table
from lookalike.errors import InputError, did_you_mean

log = logging.getLogger(__name__)

TABLES = (".csv", ".parquet")


def find_records(places: Sequence[str]) -> Records:
    """Records without classes: the images of folders (at any depth), files and globs, each once;
    or those of one table, with its boxes.

    Raises:
        InputError: nothing is there, or nothing of it is an image by its extension.
    """
    if len(places) == 1 and Path(places[0]).suffix.lower() in TABLES:
        return Table(places[0], labelled=False).records()
    skipped = Skipped()
    found = (path for place in places for path in _images_at(str(place), skipped))
    paths = list(dict.fromkeys(found))
    if skipped.files:
        log.warning("%s", skipped)
    if not paths:
        raise InputError(
            "give images=<folder, file, glob, list of them, or a table>, such as images=photos or "
            "images=[a.jpg,b.jpg]"
        )
    return Records.create(paths, [""] * len(paths))


def find_labelled(place: str) -> Records:
    """Records of a table or a folder; images in class folders have that class, others the class "".

    Raises:
        InputError: nothing is there, or nothing of it is an image.
    """
    folder = Path(place).is_dir()
    return Folder(place, labelled=False).records() if folder else find_records([place])


def _images_at(place: str, skipped: Skipped) -> list[Path]:
    path = Path(place)
    if path.is_dir():
        found = images_below(path, skipped)
    elif path.is_file():
        found = [path]
    elif has_magic(place):
        matches = map(Path, sorted(glob(place, recursive=True)))
        found = [match for match in matches if match.is_file() and is_image(match, skipped)]
    else:
        siblings = [child.name for child in path.parent.glob("*")]
        hint = did_you_mean(path.name, siblings)
        raise InputError(f"there is no file or folder {place}.{hint}")
    if not found:
        raise InputError(
            f"no images at {place}; an image's name ends in {' '.join(sorted(extensions()))}."
            + (f" {skipped}." if skipped.files else "")
        )
    return found
