"""The tables beside the page, for papers and programs; what can't be compared stands apart."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lookalike.reports.cell_table import explained, number_table, run_table, score_table
from lookalike.reports.cells import Setting
from lookalike.reports.comparison import value_of
from lookalike.reports.page.parts import Part
from lookalike.reports.saved import REPETITIONS
from lookalike.reports.tables import Table, comma_separated, latex, markdown


def table_files(parts: Sequence[Part], keys: Sequence[str], test: str) -> dict[str, str]:
    """Tables by file name.

    Args:
        parts: one or more.
        keys: in which the runs of all parts differ.
        test: the metric that stands first.
    """
    scores = {part.title: _scores(part, test) for part in parts}
    several = len(parts) > 1
    over, above = ("## {}\n\n", "% {}\n") if several else ("", "")
    numbers = {part.title: number_table(part.table_lines) for part in parts}
    runs = {part.title: run_table(_settings(part, keys), part.metrics) for part in parts}
    return {
        "scores.md": "\n".join(over.format(of) + markdown(table) for of, table in scores.items()),
        "scores.tex": "\n".join(above.format(of) + latex(table) for of, table in scores.items()),
        "scores.csv": comma_separated(_joined(numbers)),
        "runs.csv": comma_separated(_joined(runs)),
    }


def _scores(part: Part, test: str) -> Table:
    notes = explained(part.table_lines, metric=test)
    return score_table(part.table_lines, notes, by_key=True)


def _settings(part: Part, keys: Sequence[str]) -> list[Setting]:
    """With the values of all keys in which the runs of any part differ."""
    named = [key for key in keys if key not in REPETITIONS]
    return [
        replace(setting, values={key: value_of(setting.runs[0], key) for key in named})
        for setting in (line.setting for line in part.lines)
    ]


def _joined(tables: Mapping[str, Table]) -> Table:
    """One below the other, with a first column that says on what was tested, if there are several.

    Cells of columns that a table doesn't have are empty.
    """
    if len(tables) == 1:
        return next(iter(tables.values()))
    head = list(dict.fromkeys(column for table in tables.values() for column in table.head))
    body = []
    for title, table in tables.items():
        for line in table.lines:
            cells = dict(zip(table.head, line, strict=True))
            body.append([title, *(cells.get(column, "") for column in head)])
    return Table(["tested_on", *head], body)
