"""Folders that are made once: whole or not there, by one process of several, anew when damaged."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")
log = logging.getLogger(__name__)


def made_once(place: Path, make: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """What `read` makes of the folder `place`, after `make` has filled it unless it exists.

    Args:
        make: called with an empty folder beside `place`, which gets its name when it is whole.
        read: raises OSError or ValueError where the folder is damaged.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if place.exists():
            try:
                return read(place)
            except (OSError, ValueError) as error:
                log.warning("%s is damaged (%s) and is made anew", place, error)
                shutil.rmtree(place)
        for leftover in place.parent.glob(f"{place.name}.partial-*"):  # of a run that was killed
            shutil.rmtree(leftover)
        # named apart, for a worker whose parent was killed may write on for a while
        partial = place.with_name(f"{place.name}.partial-{os.getpid()}")
        partial.mkdir()
        try:
            make(partial)
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return read(place)
