"""Lists of images as CSV files: `prepare` writes what is wrong, `data.exclude` leaves it out."""

import csv
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lookalike.data.records import Records
from lookalike.data.sources.cells import read_columns
from lookalike.files import writing

log = logging.getLogger(__name__)


def write_list(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows under the names of their columns; the first column, path, is made absolute."""
    with writing(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows((os.path.abspath(str(path)), *more) for path, *more in rows)


def excluded(records: Records, lists: str | Sequence[str] | None) -> Records:
    """A new data set without the images that some lists name.

    Args:
        records: all of a data set.
        lists: tables with a column path, one or several; None leaves nothing out.

    Raises:
        InputError: a list can't be read, or has no column path; or no image is left.
    """
    if not lists:
        return records
    files = [lists] if isinstance(lists, str) else lists
    named = {os.path.abspath(path) for file in files for path in _paths(file)}
    out = np.array([os.path.abspath(path) in named for path in records.paths.tolist()])
    log.info("data.exclude: %d of %d images are left out", out.sum(), len(records))
    return records.at(np.flatnonzero(~out))


def _paths(file: str) -> list[str]:
    return read_columns(Path(str(file)), ("path",), ("path",))["path"]
