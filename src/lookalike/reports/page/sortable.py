"""A table that the browser sorts by a click on a heading, and filters by words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

from lookalike.reports.cell_table import score_table
from lookalike.reports.cells import Line
from lookalike.reports.page.labels import LOSS, shown_of
from lookalike.reports.page.ties import Tie

ROOM = 140  # characters beside each other on a wide screen
FIRST = ("run", LOSS)  # names that are always seen without scrolling
NO_BREAK = "\u00a0"


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
        value: by which it is sorted, if not by its text; a number without any comes last.
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
        tie: to runs, or nothing.
        words: by which the filter finds it, in lower case.
    """

    cells: Sequence[Cell]
    tie: Tie | None = None
    words: str = ""


@dataclass(frozen=True)
class Sortable:
    """What a template needs to show the table.

    Args:
        head: of the columns.
        rows: in the order in which they are shown first.
        tight: whether numbers may take two lines.
    """

    head: Sequence[Heading]
    rows: Sequence[Row]
    tight: bool = False


def named(text: str, key: str = "", hint: str = "") -> Cell:
    """A cell that is sorted by its text; a long one is shortened, but for the loss."""
    short = shown_of(key, text)
    return Cell(short, text, hint=hint or (text if short != text else ""))


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
        names = map(named, texts[: table.names], table.head)
        numbers = map(number, values, map(_unbroken, texts[table.names :]))
        rows.append(Row([*names, *numbers], Tie(line.setting.runs)))
    return numbers_in_view(Sortable(head, rows))


def numbers_in_view(table: Sortable) -> Sortable:
    """The names that don't fit beside the numbers stand to their right.

    The loss, or else the first, is always left; so is the name of a run.
    """
    names = [place for place, head in enumerate(table.head) if not head.number]
    names.sort(key=lambda place: table.head[place].text not in FIRST)
    numbers = [place for place, head in enumerate(table.head) if head.number]
    taken = sum(_width(table, place) for place in numbers)
    left: list[int] = []
    for place in names:
        width = _width(table, place)
        if left and table.head[place].text not in FIRST and taken + width > ROOM:
            break
        left.append(place)
        taken += width
    order = [*left, *numbers, *names[len(left) :]]
    head = [table.head[place] for place in order]
    rows = [replace(row, cells=[row.cells[place] for place in order]) for row in table.rows]
    return replace(table, head=head, rows=rows, tight=taken > ROOM)


def _unbroken(text: str) -> str:
    """A score that may take two lines breaks behind its mean only."""
    mean, *spread = text.split(" ", 1)
    return " ".join([mean, *(part.replace(" ", NO_BREAK) for part in spread)])


def _width(table: Sortable, place: int) -> int:
    """Characters of a column, with the space beside it; the words of a heading may be broken."""
    words = table.head[place].text.split()
    return 2 + max(map(len, [*words, *(row.cells[place].text for row in table.rows)]))
