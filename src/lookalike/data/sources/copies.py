"""A check that no file is in a data set twice, which would give one image two labels."""

import os
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from pathlib import Path

from lookalike.errors import InputError


def check_once(
    files: Sequence[Path], places: Sequence[str], boxes: Sequence[Sequence[int]] | None = None
) -> None:
    """Check that no file is there twice, by another name or through a link either.

    Args:
        files: N images.
        places: what to call each in a message.
        boxes: of each; one file may have several. None if all images are whole.

    Raises:
        InputError: with the first file that is there twice, and their number.
    """
    real = real_paths()
    first: dict[Hashable, int] = {}
    twice = []
    for row, file in enumerate(files):
        known = first.setdefault((real(file), tuple(boxes[row]) if boxes else None), row)
        if known != row:
            twice.append((known, row))
    if twice:
        known, row = twice[0]
        raise InputError(
            f"images that are there twice, so that a query would find itself: {len(twice)}. First "
            f"{files[row]}: {places[known]} and {places[row]}. Keep one of them."
        )


def real_paths() -> Callable[[Path], str]:
    """A function from a path to the path of its file without links.

    It looks at each folder once, as most images share theirs with others.
    """
    folder = cache(os.path.realpath)

    def real(file: Path) -> str:
        if os.path.islink(file):
            return os.path.realpath(file)
        return os.path.join(folder(file.parent), file.name)

    return real
