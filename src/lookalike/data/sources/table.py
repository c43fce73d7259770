"""Your own images in a table: a CSV or Parquet file with one row an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

from lookalike.data.records import BOX_COLUMNS, Records
from lookalike.data.sources.cells import Columns, read_columns
from lookalike.data.sources.copies import check_once
from lookalike.data.sources.twins import warn_of_twins
from lookalike.errors import InputError

REQUIRED = ("path", "label")
OPTIONAL = ("split", "role", "group")
MISSING = ("", "nan", "NaN", "<NA>")  # how programs write a label that is not there


@dataclass(frozen=True)
class Table:
    """Columns path and label, and optionally split, role, group and a box; others are skipped.

    A box is left, top, right and bottom in pixels, as detectors give it; images are cropped to
    their boxes when they are read. Empty cells leave the image whole. White space around a cell
    does not count.

    file: .csv or .parquet; labels are names or numbers, with or without gaps.
    root: folder of relative paths; None for the folder of `file`.
    labelled: whether every image needs a label and a row of its own; without it, images without a
        label are of one class, "".
    """

    file: str
    root: str | None = None
    labelled: bool = True

    def prepare(self) -> None:
        """Check the table and that all image files exist; see `records`."""
        self._checked()

    def records(self) -> Records:
        """All images in the order of the table.

        Raises:
            InputError: the table, a column, a label or an image file is missing, a box is invalid,
                or an image is there twice.
        """
        records = self._checked()
        warn_of_twins(records.class_names)
        return records

    def _checked(self) -> Records:
        file = Path(str(self.file))  # a name such as 2024 is a number to Hydra
        known = REQUIRED + OPTIONAL + BOX_COLUMNS
        columns = read_columns(file, known, REQUIRED if self.labelled else REQUIRED[:1])
        root = Path(str(self.root)) if self.root else file.parent
        paths = [root / path for path in columns["path"]]
        _check_files(paths, columns["path"], self.file)
        labels = columns.get("label", [""] * len(paths))
        boxes = _boxes(columns, self.file)
        if self.labelled:
            _check_labels(labels, self.file)
            check_once(paths, _rows(columns), boxes)
        splits, roles, groups = (columns.get(name) for name in OPTIONAL)
        return Records.create(paths, labels, splits=splits, roles=roles, groups=groups, boxes=boxes)


def _rows(columns: Columns) -> list[str]:
    """What to call each row: its number, from 1 on below the head, and what it says."""
    said = [name for name in (*REQUIRED[1:], *OPTIONAL) if name in columns]
    rows = zip(*(columns[name] for name in said), strict=True)
    texts = (
        ", ".join(f"{name} {cell!r}" for name, cell in zip(said, r, strict=True)) for r in rows
    )
    return [f"row {number} ({text})" for number, text in enumerate(texts, 1)]


def _check_files(paths: Sequence[Path], written: Sequence[str], file: str) -> None:
    missing = [row for row, path in enumerate(paths) if not written[row] or not _is_file(path)]
    if missing:
        first = missing[0]
        raise InputError(
            f"{len(missing)} of the {len(paths)} images in {file} are missing; the first, in row "
            f"{first + 1}, is {str(paths[first])!r}. Fix the paths, or set data.root to the folder "
            "they start from."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False


def _check_labels(labels: Sequence[str], file: str) -> None:
    missing = [row for row, label in enumerate(labels, 1) if label in MISSING]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise InputError(
            f"{len(missing)} of the {len(labels)} rows of {file} have no label (rows {shown}). "
            "Fill in the column label, or remove these rows."
        )


def _boxes(columns: Columns, file: str) -> list[list[int]] | None:
    """Boxes rounded outwards to whole pixels; None without columns of boxes."""
    found = [name for name in BOX_COLUMNS if name in columns]
    if not found:
        return None
    if len(found) < 4:
        raise InputError(f"{file} has only {', '.join(found)} of a box; give all four, or none")
    rows = list(zip(*(columns[name] for name in BOX_COLUMNS), strict=True))
    return [_box(row, f"row {number} of {file}") for number, row in enumerate(rows, 1)]


def _box(cells: tuple[str, ...], where: str) -> list[int]:
    if not any(cells):
        return [0, 0, 0, 0]
    try:
        left, top, right, bottom = (float(cell) for cell in cells)
        box = [floor(left), floor(top), ceil(right), ceil(bottom)]
    except (ValueError, OverflowError) as error:
        raise InputError(f"the box {', '.join(cells)} in {where} is not four numbers") from error
    if not (0 <= box[0] < box[2] and 0 <= box[1] < box[3] and max(box) < 2**31):
        raise InputError(
            f"the box {', '.join(cells)} in {where} is empty or begins outside the image: need "
            "0 <= left < right and 0 <= top < bottom, in pixels"
        )
    return box
