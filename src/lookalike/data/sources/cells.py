"""The cells of a table as text: of a CSV or Parquet file, read so that no row is lost."""

import csv
import math
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

from lookalike.errors import InputError, did_you_mean

Columns = dict[str, list[str]]
PLAIN = (str, bool, int, float, Decimal, date)  # kinds of values that have a text


def read_columns(file: Path, known: Sequence[str], required: Sequence[str]) -> Columns:
    """The known columns of a table as text, without white space around; nulls become "".

    Args:
        file: .csv, with commas, in UTF-8; or .parquet.
        known: the columns that are read; others are skipped.
        required: those that must be there.

    Raises:
        InputError: there is no such file, it can't be read as a table (a quote is not closed, a
            row has too many cells), or a column is missing or there twice.
    """
    if not file.is_file():
        raise InputError(
            f"no table at {file.resolve()}. Set data.source.file=<file>.csv or .parquet."
        )
    read = _parquet if file.suffix.lower() == ".parquet" else _csv
    return read(file, known, required)


def _csv(file: Path, known: Sequence[str], required: Sequence[str]) -> Columns:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True, skipinitialspace=True)
            head = [cell.strip() for cell in next(reader, [])]
            places = _places(file, head, known, required)
            rows = []
            for row in reader:
                if not row:
                    continue  # an empty line
                _check_row(file, reader.line_num, row, head)
                rows.append([row[place] for place in places.values()])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"can't read the table {file}: {error}. {_HINT}") from error
    return {name: [row[number].strip() for row in rows] for number, name in enumerate(places)}


_HINT = (
    "Save it as CSV in UTF-8, with commas between cells and quotes that are closed, or as Parquet."
)


def _check_row(file: Path, line: int, row: Sequence[str], head: Sequence[str]) -> None:
    if len(row) != len(head):
        raise InputError(
            f"{file} has {len(row)} cells in line {line}, and {len(head)} columns: "
            f"{', '.join(head)}. Put quotes around a cell with a comma. {_HINT}"
        )
    if any("\n" in cell or "\r" in cell for cell in row):
        raise InputError(
            f"{file} has a cell that goes on in line {line}: close its quotes. {_HINT}"
        )


def _parquet(file: Path, known: Sequence[str], required: Sequence[str]) -> Columns:
    from pyarrow import ArrowException, parquet  # 0.1 s that other data sets don't need

    try:
        with parquet.ParquetFile(file) as opened:
            places = _places(file, opened.schema_arrow.names, known, required)
            table = opened.read(columns=list(places))
            return {
                name: [_text(value, name, file) for value in table[name].to_pylist()]
                for name in places
            }
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"can't read the table {file}: {error}") from error


def _places(
    file: Path, head: Sequence[str], known: Sequence[str], required: Sequence[str]
) -> dict[str, int]:
    """Which of the columns are known, and where they stand."""
    lacking = [name for name in required if name not in head]
    if lacking:
        optional = [name for name in known if name not in required]
        raise InputError(
            f"{file} has no column {lacking[0]!r}, only {', '.join(head) or 'nothing'}. Required: "
            f"{', '.join(required)}; optional: {', '.join(optional)}."
            f"{did_you_mean(lacking[0], head)}"
        )
    found = [name for name in known if name in head]
    double = [name for name in found if head.count(name) > 1]
    if double:
        raise InputError(f"{file} has several columns {double[0]!r}: keep one")
    return {name: head.index(name) for name in found}


def _text(value: object, name: str, file: Path) -> str:
    """A value of a Parquet file; whole numbers have no decimals, as columns of floats are what
    integers with gaps become."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode().strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, PLAIN):
        return str(value).strip()
    raise InputError(
        f"{file} has a {type(value).__name__} in column {name!r}: give text or numbers"
    )
