"""Tables of text, and how they are written: on a terminal, as Markdown, LaTeX and CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Literal

from rich.console import Console
from rich.table import Column
from rich.table import Table as Drawn
from rich.text import Text

from lookalike.evaluation.lengths import AT_LENGTH

SPOKEN = {
    "ami": "AMI",
    "gap": "GAP",
    "map": "MAP",
    "map_trapezoid": "MAP by trapezoids",
    "map_at_r": "MAP@R",
    "minp": "mINP",
    "nmi": "NMI",
    "precision_at_1": "P@1",
    "r_precision": "R-precision",
}
AT = {"recall_at_": "recall@", "mean_precision_at_": "mP@", "map_at_": "MAP@"}
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "≈": r"$\approx$",
        "†": r"$^\dagger$",
        "↓": r"$\downarrow$",
    }
)


@dataclass(frozen=True)
class Table:
    """A heading, lines of as many cells, and sentences below.

    Args:
        head: titles of the columns.
        lines: of the body.
        names: how many columns, from the left, hold names; numbers are aligned to the right.
        notes: what a reader needs to judge the numbers.
        title: above it on the terminal.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    names: int = 1
    notes: Sequence[str] = ()
    title: str | None = None


def title(metric: str) -> str:
    """A metric as people write it.

    >>> title("test/map_at_r"), title("epoch_0/val/recall_at_4"), title("map_at_r_length_64")
    ('test MAP@R', 'epoch 0 val recall@4', 'MAP@R, length 64')
    """
    split, _, name = metric.rpartition("/")
    name, _, length = name.partition(AT_LENGTH)
    shorter = f", length {length}" if length else ""
    return f"{split.replace('/', ' ').replace('_', ' ')} {_spoken(name)}{shorter}".strip()


def _spoken(name: str) -> str:
    """A metric without its split; behind its name may stand that of a setup, as in map_hard."""
    known = max((key for key in SPOKEN if f"{name}_".startswith(f"{key}_")), key=len, default="")
    begins = next((key for key in AT if name.startswith(key) and key > known), "")
    spoken = AT.get(begins) or SPOKEN.get(known, "")
    rest = name.removeprefix(begins or known).replace("_", " ")
    return spoken + rest


def print_table(table: Table) -> None:
    """On the terminal; a narrow one breaks cells, and hides none."""
    console = Console()
    longest = max((len(line[0]) for line in table.lines), default=0)
    width = max(min(longest, max(20, console.width // 3)), len(table.head[0]))
    drawn = Drawn(Column(Text(table.head[0]), overflow="fold", width=width), title=table.title)
    for place, head in enumerate(table.head[1:], start=1):
        drawn.add_column(Text(head), justify=_side(table, place), overflow="fold")
    for line in table.lines:
        drawn.add_row(*map(Text, line))  # plain: Rich would read "[a,b]" as markup
    console.print(drawn)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown, and a paragraph a note."""
    rule = ["---" if _side(table, place) == "left" else "---:" for place in range(len(table.head))]
    body = [_for_markdown(table.head), rule, *map(_for_markdown, table.lines)]
    drawn = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
    return "\n\n".join([drawn, *table.notes]) + "\n"


def latex(table: Table) -> str:
    r"""A tabular for \usepackage{booktabs}; the notes stand above it as comments."""
    head, *lines = [
        " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"
        for cells in (table.head, *table.lines)
    ]
    columns = "".join(_side(table, place)[0] for place in range(len(table.head)))
    notes = [f"% {' '.join(note.split())}" for note in table.notes]
    top, rule, bottom = r"\toprule", r"\midrule", r"\bottomrule"
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([*notes, begin, top, head, rule, *lines, bottom, end, ""])


def comma_separated(table: Table) -> str:
    """CSV with a heading, for programs: without the notes."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.head, *table.lines])
    return stream.getvalue()


def _side(table: Table, column: int) -> Literal["left", "right"]:
    return "left" if column < table.names else "right"


def _for_markdown(cells: Sequence[str]) -> list[str]:
    return [cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells]
