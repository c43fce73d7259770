"""A check that all images can be read, before long work that an unreadable one would interrupt."""

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from lookalike.data.decoding import check_head, why_unreadable
from lookalike.data.images import ImageFiles, files_of
from lookalike.data.lists import write_list
from lookalike.data.records import Records
from lookalike.errors import InputError, UnreadableFilesError
from lookalike.progress import track

NAMED = 20  # unreadable images at most; the rest is in the list

log = logging.getLogger(__name__)


def problems_of(files: ImageFiles) -> dict[int, str]:
    """Decode every image once: the id of each that can't be read, or whose box reaches outside of
    it -> why."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the GIL
        checks = pool.map(partial(_problem, files), range(len(files)))
        found = list(track(checks, "Opening every image", total=len(files)))
    return {row: problem for row, problem in enumerate(found) if problem}


def check_heads(records: Records) -> None:
    """Look at the first bytes of every file, before long work that one of them would end.

    Raises:
        UnreadableFilesError: some are missing or no images.
    """
    paths, rows = np.unique(records.paths, return_index=True)  # boxes may share an image
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_problem_of_head, paths.tolist()))
    problems = {int(row): why for row, why in zip(rows, found, strict=True) if why}
    if problems:
        raise UnreadableFilesError(
            f"{described(records, problems)}\nFix or remove them, or let `lookalike prepare` "
            "write a list of them for data.exclude."
        )


def readable(records: Records, listing: Path) -> Records:
    """A new data set of the images that can be read; the others are logged and listed.

    Args:
        records: whose images are decoded once.
        listing: the CSV file that lists those that can't be read, if there are any.

    Raises:
        InputError: no image can be read.
    """
    problems = problems_of(files_of(records))
    if not problems:
        return records
    if len(problems) == len(records):
        raise InputError(f"{described(records, problems)}\nNothing is left.")
    write_problems(listing, records, problems)
    log.warning("%s\nThey are left out; the list: %s", described(records, problems), listing)
    return records.at(np.setdiff1d(records.every_id, list(problems)))


def write_problems(file: Path, records: Records, problems: Mapping[int, str]) -> None:
    """A table of the images that can't be read, with columns path and problem."""
    rows = [(records.paths[row], problem) for row, problem in problems.items()]
    write_list(file, ("path", "problem"), rows)


def described(records: Records, problems: Mapping[int, str]) -> str:
    """How many images can't be read, and lines with the first of them and why."""
    count = f"{len(problems)} of {len(records)} images can't be read"
    lines = [f"  {records.paths[row]} ({why})" for row, why in list(problems.items())[:NAMED]]
    more = len(problems) - len(lines)
    return "\n".join([f"{count}:", *lines, *([f"  and {more} more"] if more else [])])


def _problem_of_head(path: str) -> str:
    try:
        check_head(path)
    except InputError as error:
        return why_unreadable(error)
    return ""


def _problem(files: ImageFiles, row: int) -> str:
    try:
        files[row]
    except InputError as error:
        return why_unreadable(error)
    return ""
