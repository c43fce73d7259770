"""Cached folders: complete or absent, built by one process only, rebuilt if damaged."""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from lookalike.data.manifest import check_manifest, write_manifest
from lookalike.files import explained, publish

T = TypeVar("T")
ADVICE = (
    "Make room there, set paths.cache=<folder on another disk> (or LOOKALIKE_CACHE), or cache "
    "nothing: data.cache=none."
)

log = logging.getLogger(__name__)


def build_or_load(folder: Path, build: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """The content of a cached folder, which is built first if it is missing or damaged.

    Args:
        folder: of the cache; a lock file lies beside it.
        build: fills the empty folder that it is given, which is then renamed to `folder`.
        load: reads the folder, whose checksums were compared; raises OSError or ValueError if it
            is damaged.

    Returns:
        What `load` returns.

    Raises:
        InputError: the folder must be built, and the disk is full or may not be written to.
    """
    if folder.exists():  # read without a lock: a shared cache may be read-only
        with suppress(OSError, ValueError):
            return _checked(folder, load)
    with explained(folder, ADVICE):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            return _load_or_build(folder, build, load)


def _load_or_build(folder: Path, build: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    if folder.exists():
        try:
            return _checked(folder, load)
        except (OSError, ValueError) as error:
            log.warning("%s is damaged (%s) and is made again", folder, error)
            shutil.rmtree(folder)
    _build(folder, build)
    return load(folder)


def _checked(folder: Path, load: Callable[[Path], T]) -> T:
    check_manifest(folder)
    return load(folder)


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    # a name of its own: a worker whose parent was killed may still be writing to the old one
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        build(partial)
        write_manifest(partial)
        publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
