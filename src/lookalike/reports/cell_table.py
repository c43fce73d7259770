"""Tables of cells that were run with several seeds and folds, best first, with intervals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from lookalike.evaluation.statistics import mean_interval, p_against, per_seed

ALPHA = 0.05
NOT_SIGNIFICANT = "≈"
LATEX = str.maketrans(
    {
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "±": r"$\pm$",
        NOT_SIGNIFICANT: r"$\approx$",
        "†": r"$^\dagger$",
    }
)


@dataclass(frozen=True)
class Row:
    """The runs of one cell.

    Args:
        label: what was chosen, as overrides.
        results: metrics.json of each finished run by (seed, fold).
        compared: whether it takes part in comparisons; what was not trained does not.
        beside: further columns by title.
    """

    label: str
    results: dict[tuple[int, int], dict[str, Any]]
    compared: bool = True
    beside: dict[str, str] = field(default_factory=dict)

    def grid(self, metric: str, seeds: Sequence[int], folds: Sequence[int]) -> NDArray[np.float64]:
        """A score by seed and fold, (S, F), NaN where a run is missing."""
        found = [[self.results.get((s, f), {}).get(metric, np.nan) for f in folds] for s in seeds]
        return np.array(found, dtype=np.float64)


@dataclass(frozen=True)
class Cell:
    """What the table says of one row and one metric; `p` is against the best or the reference."""

    mean: float
    half_width: float
    p: float | None

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "-"
        spread = "" if np.isnan(self.half_width) else f" ± {self.half_width:.4f}"
        mark = f" {NOT_SIGNIFICANT}" if self.p is not None and self.p > ALPHA else ""
        return f"{self.mean:.4f}{spread}{mark}"


@dataclass(frozen=True)
class Line:
    """A row, its cells by metric, and how many of its runs are finished."""

    row: Row
    cells: dict[str, Cell]

    @property
    def minutes(self) -> float:
        """Of a run, on average."""
        seconds = [result["wall_time_seconds"] for result in self.row.results.values()]
        return float(np.mean(seconds)) / 60 if seconds else np.nan


def compared(
    rows: Sequence[Row], metrics: Sequence[str], reference: str | None = None
) -> list[Line]:
    """Rows ordered by the first metric, best first, with intervals and marks.

    What was not trained stands above all: what the trained ones have to beat.

    Args:
        reference: label of the row that the others are compared with; null takes the best.
    """
    seeds = sorted({seed for row in rows for seed, _ in row.results})
    folds = sorted({fold for row in rows for _, fold in row.results})
    grids = {metric: [row.grid(metric, seeds, folds) for row in rows] for metric in metrics}
    marks = {metric: _p_values(rows, grids[metric], reference) for metric in metrics}
    lines = []
    for index, row in enumerate(rows):
        cells = {}
        for metric in metrics:
            interval = mean_interval(per_seed(grids[metric][index]))
            cells[metric] = Cell(interval.mean, interval.half_width, marks[metric].get(index))
        lines.append(Line(row, cells))

    def place(line: Line) -> tuple[bool, float]:
        mean = line.cells[metrics[0]].mean
        return line.row.compared, np.inf if np.isnan(mean) else -mean

    return sorted(lines, key=place)


def titles(lines: Sequence[Line]) -> list[str]:
    """The head of the table."""
    metrics = [name.replace("/", " ").replace("_", " ") for name in lines[0].cells]
    beside = list(dict.fromkeys(title for line in lines for title in line.row.beside))
    return ["", *metrics, *beside, "runs", "minutes a run"]


def texts(line: Line, head: Sequence[str]) -> list[str]:
    """A line of the table, as its head has it."""
    beside = [line.row.beside.get(title, "") for title in head[1 + len(line.cells) : -2]]
    runs = str(len(line.row.results))
    minutes = "-" if np.isnan(line.minutes) else f"{line.minutes:.1f}"
    return [line.row.label, *map(str, line.cells.values()), *beside, runs, minutes]


def print_comparison(lines: Sequence[Line], notes: Iterable[str] = ()) -> None:
    head = titles(lines)
    console = Console()
    longest = max(len(line.row.label) for line in lines)
    table = Table(  # a narrow screen breaks cells, and hides none
        Column(overflow="fold", width=min(longest, max(20, console.width // 3))),
        *(Column(title, justify="right", overflow="fold") for title in head[1:]),
    )
    for line in lines:
        table.add_row(*texts(line, head))
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def markdown(lines: Sequence[Line], notes: Iterable[str] = ()) -> str:
    head = titles(lines)
    body = [head, ["---", *["---:"] * (len(head) - 1)], *(texts(line, head) for line in lines)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
    return "\n\n".join([table, *notes]) + "\n"


def latex(lines: Sequence[Line], notes: Iterable[str] = ()) -> str:
    """A tabular for the package booktabs; the notes stand above it as comments."""
    head = titles(lines)
    body = [[text.translate(LATEX) for text in texts(line, head)] for line in lines]
    return "\n".join(
        [
            *(f"% {note}" for note in notes),
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(head)} \\",
            r"\midrule",
            *(rf"{' & '.join(cells)} \\" for cells in body),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def csv_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Numbers in full: mean, half_width and p of every metric."""
    return [
        {"cell": line.row.label}
        | {
            f"{metric}{suffix}": value
            for metric, cell in line.cells.items()
            for suffix, value in (
                ("", cell.mean), ("/half_width", cell.half_width), ("/p", cell.p),
            )
        }
        | {"runs": len(line.row.results), "minutes_a_run": round(line.minutes, 2)}
        for line in lines
    ]  # fmt: skip


def _p_values(
    rows: Sequence[Row], grids: list[NDArray[np.float64]], reference: str | None
) -> dict[int, float]:
    """By row, of the rows that are compared and have a complete seed."""
    taking_part = [
        index for index, row in enumerate(rows) if row.compared and len(per_seed(grids[index]))
    ]
    if len(taking_part) < 2:
        return {}
    labels = [rows[index].label for index in taking_part]
    if reference is not None and reference not in labels:
        return {}
    against = None if reference is None else labels.index(reference)
    p_values = p_against(np.stack([grids[index] for index in taking_part]), against)
    return dict(zip(taking_part, p_values.tolist(), strict=True))
