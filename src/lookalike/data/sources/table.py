"""Your own images in a table: a CSV or Parquet file with one row an image."""

from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

from lookalike.data.records import BOX_COLUMNS, Records
from lookalike.errors import InputError

REQUIRED = ("path", "label")
OPTIONAL = ("split", "role", "group")


@dataclass(frozen=True)
class Table:
    """Columns path and label, and optionally split, role, group and a box; others are skipped.

    A box is left, top, right and bottom in pixels, as detectors give it; images are cropped to
    their boxes when they are read. Empty cells leave the image whole.

    file: .csv or .parquet; labels are names or numbers, with or without gaps.
    root: folder of relative paths; None for the folder of `file`.
    labelled: whether the column label is required; without it all images are of one class, "".
    """

    file: str
    root: str | None = None
    labelled: bool = True

    def prepare(self) -> None:
        """Check the table and that all image files exist; see `records`."""
        self.records()

    def records(self) -> Records:
        """All images in the order of the table.

        Raises:
            InputError: the table, a column or an image file is missing, or a box is invalid.
        """
        columns = _read_columns(Path(self.file), REQUIRED if self.labelled else REQUIRED[:1])
        root = Path(self.root) if self.root else Path(self.file).parent
        paths = [root / path for path in columns["path"]]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of the {len(paths)} images in {self.file} are missing; the first "
                f"is {missing[0]}. Fix the paths, or set data.root to the folder they start from."
            )
        optional = {f"{name}s": columns.get(name) for name in OPTIONAL}
        boxes = _boxes(columns, self.file)
        labels = columns.get("label", [""] * len(paths))
        return Records.create(paths, labels, **optional, boxes=boxes)


def _read_columns(file: Path, required: tuple[str, ...]) -> dict[str, list[str]]:
    """The known columns as text; nulls become empty strings."""
    if not file.is_file():
        raise InputError(
            f"no table at {file.resolve()}. Set data.source.file=<file>.csv or .parquet."
        )
    table = _read_table(file)
    lacking = [name for name in required if name not in table.column_names]
    if lacking:
        raise InputError(
            f"{file} has no column {lacking[0]!r}, only {', '.join(table.column_names)}. "
            f"Required: {', '.join(required)}; optional: {', '.join(OPTIONAL)}."
        )
    known = [name for name in REQUIRED + OPTIONAL + BOX_COLUMNS if name in table.column_names]
    return {
        name: ["" if value is None else str(value) for value in table[name].to_pylist()]
        for name in known
    }


def _boxes(columns: dict[str, list[str]], file: str) -> list[list[int]] | None:
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
    if not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
        raise InputError(
            f"the box {', '.join(cells)} in {where} is empty or begins outside the image: need "
            "0 <= left < right and 0 <= top < bottom, in pixels"
        )
    return box


def _read_table(file: Path) -> Any:
    """A pyarrow.Table."""
    from pyarrow import ArrowInvalid, csv, parquet, string  # 0.1 s that other data sets don't need

    try:
        if file.suffix.lower() == ".parquet":
            return parquet.read_table(file)
        as_text = csv.ConvertOptions(
            column_types=dict.fromkeys(REQUIRED + OPTIONAL + BOX_COLUMNS, string())
        )
        return csv.read_csv(file, convert_options=as_text)
    except ArrowInvalid as error:
        raise InputError(f"can't read the table {file}: {error}") from error
