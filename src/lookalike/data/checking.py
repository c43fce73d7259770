"""A check that all images can be read, before long work that an unreadable one would interrupt."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rich.progress import track

from lookalike.data.images import ImageFiles
from lookalike.errors import InputError


def check_readable(files: ImageFiles) -> None:
    """Decode every image once.

    Raises:
        InputError: names all images that can't be read, or whose box reaches outside of them.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the GIL
        checks = pool.map(partial(_problem, files), range(len(files)))
        found = list(track(checks, "Opening every image", total=len(files), transient=True))
    problems = [problem for problem in found if problem]
    if problems:
        listing = "\n  ".join(problems)
        raise InputError(
            f"{len(problems)} of {len(files)} images can't be read; fix or remove them:\n"
            f"  {listing}"
        )


def _problem(files: ImageFiles, row: int) -> str:
    try:
        files[row]
    except InputError as error:
        return f"{files.paths[row]} ({error.__cause__ or error})"
    return ""
