"""Listings: how official files name the images of a data set, and what they are held against."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from lookalike.data.records import Records
from lookalike.errors import InputError

log = logging.getLogger(__name__)

Code = TypeVar("Code")
Meaning = TypeVar("Meaning")


@dataclass(frozen=True)
class Listing:
    """A text file with a row for every image.

    Args:
        file: where it lies.
        columns: their names; white space parts them, here and there.
        remedy: what to do if the file is missing or wrong, the end of every error.
        named: whether a line above the rows names the columns.
        counted: whether the first line of all says how many rows there are.
    """

    file: Path
    columns: str
    remedy: str
    named: bool = False
    counted: bool = False

    def rows(self) -> list[list[str]]:
        """The rows' columns. Raises InputError if the file is missing, empty, torn, or another."""
        names = self.columns.split()
        lines = [line.split() for line in self._text().rstrip().splitlines()]
        above = self.counted + self.named
        head, rows = lines[:above], lines[above:]
        if self.named and head[-1:] != [names]:
            raise self._wrong(f"has no line '{self.columns}' above its rows")
        if not rows:
            raise self._wrong("lists no images")
        for number, row in enumerate(rows, start=above + 1):
            if len(row) != len(names):
                raise self._wrong(f"says '{' '.join(row)}' in line {number}, not '{self.columns}'")
        if self.counted and head[0] != [str(len(rows))]:
            raise self._wrong(f"says that {' '.join(head[0])} rows follow, and has {len(rows)}")
        return rows

    def _text(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self._wrong("is missing") from None
        except (OSError, UnicodeDecodeError) as error:
            raise self._wrong(f"can't be read: {error}") from error

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self.file} {what}. {self.remedy}")


def class_ids(values: Iterable[str | int], where: Path, remedy: str) -> list[int]:
    """The values as numbers of classes. Raises InputError unless these are 1, 2 ... without gap."""
    try:
        ids = [int(value) for value in values]
    except ValueError as error:
        raise InputError(f"a class id in {where} is no number: {error}. {remedy}") from error
    for expected, found in enumerate(sorted(set(ids)), start=1):
        if found != expected:
            raise InputError(
                f"class ids in {where} jump from {expected - 1} to {found}; they are to count "
                f"from 1 without a gap. {remedy}"
            )
    return ids


def meanings(
    codes: Sequence[Code], known: Mapping[Code, Meaning], where: Path, remedy: str
) -> list[Meaning]:
    """What each code stands for. Raises InputError for a code that is not known."""
    for code in codes:
        if code not in known:
            choices = ", ".join(str(choice) for choice in known)
            raise InputError(f"{where} says {code!r} where one of {choices} stands. {remedy}")
    return [known[code] for code in codes]


def check_images(images: Sequence[Path], remedy: str) -> None:
    """Raises InputError, with their number and the first, if some are not there."""
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images are missing, first {missing[0]}. {remedy}"
        )


def compare_with_published(records: Records, name: str, published: Mapping[str, int]) -> None:
    """Warns of every count that differs from the one published for the data set `name`.

    Keys are "images", "classes", and these two of "train" or "test", such as "train classes", or
    of a role, such as "query images".
    """
    parts = {"": np.ones(len(records), dtype=bool)}
    parts |= {f"{split} ": records.splits == split for split in ("train", "test")}
    parts |= {f"{role} ": records.roles == role for role in ("query", "gallery")}
    found = {f"{part}images": int(rows.sum()) for part, rows in parts.items()} | {
        f"{part}classes": len(np.unique(records.labels[rows])) for part, rows in parts.items()
    }
    other = [f"{found[key]} {key}, not {n}" for key, n in published.items() if found[key] != n]
    if other:
        log.warning(
            "This is not %s as published, so its scores don't compare with published ones: %s.",
            name,
            "; ".join(other),
        )
