"""Listings: the text files that name the images of a data set, and checks of what they say."""

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
    """A text file with one row for every image.

    file: its path.
    columns: their names, separated by white space, as the values in the file are.
    remedy: what to do if the file is missing or damaged; the end of every error message.
    named: whether a line above the rows holds the names of the columns.
    counted: whether the first line of the file holds the number of rows.
    """

    file: Path
    columns: str
    remedy: str
    named: bool = False
    counted: bool = False

    def rows(self) -> list[list[str]]:
        """The values of every row.

        Raises:
            InputError: the file is missing, empty, incomplete, or has other columns.
        """
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
    """The class ids as numbers, which must be 1, 2, ... without gaps.

    Args:
        values: of the images.
        where: the file they are from, for the message.
        remedy: the end of the message.

    Raises:
        InputError: one is not a number, or there is a gap.
    """
    try:
        ids = [int(value) for value in values]
    except ValueError as error:
        raise InputError(f"a class id in {where} is not a number: {error}. {remedy}") from error
    for expected, found in enumerate(sorted(set(ids)), start=1):
        if found != expected:
            raise InputError(
                f"class ids in {where} jump from {expected - 1} to {found}; they must count from 1 "
                f"without a gap. {remedy}"
            )
    return ids


def meanings(
    codes: Sequence[Code], known: Mapping[Code, Meaning], where: Path, remedy: str
) -> list[Meaning]:
    """The meaning of each code, such as "train" for "1".

    Args:
        codes: of the images.
        known: code -> meaning.
        where: the file they are from, for the message.
        remedy: the end of the message.

    Raises:
        InputError: a code is unknown.
    """
    for code in codes:
        if code not in known:
            choices = ", ".join(str(choice) for choice in known)
            raise InputError(f"{where} says {code!r}, not one of {choices}. {remedy}")
    return [known[code] for code in codes]


def check_images(images: Sequence[Path], remedy: str) -> None:
    """Check that all image files exist.

    Raises:
        InputError: some are missing; the message has their number and the first one.
    """
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images are missing, first {missing[0]}. {remedy}"
        )


def compare_with_published(records: Records, name: str, published: Mapping[str, int]) -> None:
    """Log a warning with every count that differs from the published one.

    Args:
        records: of the data set.
        name: of the data set, for the message.
        published: the expected counts. Keys are "images" and "classes", alone or after a split
            ("train classes") or a role ("query images").
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
