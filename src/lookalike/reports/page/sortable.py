"""A table that the browser sorts by a click on a heading, and filters by words."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from lookalike.reports.cell_table import score_table
from lookalike.reports.cells import Line


@dataclass(frozen=True)
class Heading:
    """Of a column.

    Args:
        text: its title.
        number: whether its cells are sorted by value, and aligned to the right.
    """

    text: str
    number: bool = False


@dataclass(frozen=True)
class Cell:
    """Of a line.

    Args:
        text: what is read.
        value: by which a number is sorted; nothing sorts it last.
        number: whether it is one.
        hint: shown by the browser beside the pointer.
    """

    text: str
    value: float | str = ""
    number: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """A line.

    Args:
        cells: as many as headings.
        words: by which the filter finds it, in lower case.
    """

    cells: Sequence[Cell]
    words: str = ""


@dataclass(frozen=True)
class Sortable:
    """What a template needs to show the table.

    Args:
        head: of the columns.
        rows: in the order in which they are shown first.
        name: the id in the page, or nothing.
    """

    head: Sequence[Heading]
    rows: Sequence[Row]
    name: str = ""


def named(text: str, hint: str = "") -> Cell:
    """A cell that is sorted by its text."""
    return Cell(text, hint=hint)


def number(value: float | None, text: str) -> Cell:
    """A cell that is sorted by its value; what is missing or NaN comes last."""
    return Cell(text, "" if value is None or isnan(value) else float(value), number=True)


def scores(lines: Sequence[Line]) -> Sortable:
    """The table of a comparison, a column a hyper-parameter."""
    table = score_table(lines, by_key=True)
    head = [Heading(text, place >= table.names) for place, text in enumerate(table.head)]
    rows = []
    for line, texts in zip(lines, table.lines, strict=True):
        means = [score.mean for score in line.scores.values()]
        runs, minutes = texts[-2:]
        values = [*means, float(runs), None if minutes == "-" else float(minutes)]
        numbers = map(number, values, texts[table.names :])
        rows.append(Row([*map(named, texts[: table.names]), *numbers]))
    return Sortable(head, rows)
