"""Anyone's images in a table: a CSV or Parquet file with one row an image."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.errors import InputError

REQUIRED = ("path", "label")
OPTIONAL = ("split", "role", "group")


@dataclass(frozen=True)
class Table:
    """Columns path and label, and optionally split, role and group; others are passed over.

    Args:
        file: .csv or .parquet. Labels are names or numbers, with or without gaps.
        root: relative paths start here; by default at the folder of `file`.
    """

    file: str
    root: str | None = None

    def prepare(self) -> None:
        self.records()

    def records(self) -> Records:
        """Raises InputError if the table, a column or an image file is missing."""
        columns = _read_columns(Path(self.file))
        root = Path(self.root) if self.root else Path(self.file).parent
        paths = [root / path for path in columns["path"]]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of the {len(paths)} images in {self.file} are not there; the "
                f"first is {missing[0]}. Mend the paths, or set data.root to where they start."
            )
        optional = {f"{name}s": columns.get(name) for name in OPTIONAL}
        return Records.create(paths, columns["label"], **optional)


def _read_columns(file: Path) -> dict[str, list[str]]:
    """The known columns as text; nulls become empty."""
    if not file.is_file():
        raise InputError(
            f"no table at {file.resolve()}. Set data.source.file=<file>.csv or .parquet."
        )
    table = _read_table(file)
    lacking = [name for name in REQUIRED if name not in table.column_names]
    if lacking:
        raise InputError(
            f"{file} has no column {lacking[0]!r}, only {', '.join(table.column_names)}. "
            f"Required: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}."
        )
    known = [name for name in REQUIRED + OPTIONAL if name in table.column_names]
    return {
        name: ["" if value is None else str(value) for value in table[name].to_pylist()]
        for name in known
    }


def _read_table(file: Path):
    from pyarrow import ArrowInvalid, csv, parquet, string  # 0.1 s that other data sets don't need

    try:
        if file.suffix.lower() == ".parquet":
            return parquet.read_table(file)
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(REQUIRED + OPTIONAL, string()))
        return csv.read_csv(file, convert_options=as_text)
    except ArrowInvalid as error:
        raise InputError(f"can't read the table {file}: {error}") from error
