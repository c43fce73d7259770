"""Timing side by side: contenders take turns, so that a noisy machine is noisy for all of them.

A benchmark script fills a `Table` and calls `write`; `report.py` makes RESULTS.md of all tables.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Any

from rich.progress import Progress

RESULTS = Path(__file__).parent / "results"
ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One contender: what it measured in every round, and how it stands to a reference.

    Args:
        name: of the contender.
        values: one a round, in the table's unit; none where it could not be measured.
        ratio: to the table's reference; above 1 is better, whatever the unit.
        target: the least ratio that we want of ourselves; null for rivals and limits.
        note: a few words, such as the peak of memory.
    """

    name: str
    values: tuple[float, ...]
    ratio: float | None = None
    target: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target


@dataclass(frozen=True)
class Table:
    """What one script measured.

    Args:
        title: a heading.
        command: that measures it again.
        unit: of the values, such as "images/s" or "s".
        reference: the name of the row that ratios refer to.
        rows: contenders, the physical limit last.
        notes: paragraphs of Markdown: what it means, and what stands in the way of a target.
        packages: whose versions count.
    """

    title: str
    command: str
    unit: str
    reference: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    packages: tuple[str, ...] = ("torch", "torchvision", "numpy")


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, warm_up: bool = True
) -> dict[str, tuple[float, ...]]:
    """Seconds of every contender in every round, after one round of `warm_up` that is not counted;
    calls that take many seconds after shorter ones of the same kind need none.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    first = 0 if warm_up else 1
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=(rounds + 1 - first) * len(contenders))
        for round_number in range(first, rounds + 1):
            for name, run in contenders.items():
                progress.update(task, description=f"round {round_number} of {rounds}: {name}")
                start = perf_counter()
                run()
                elapsed = perf_counter() - start
                if round_number:
                    seconds[name].append(elapsed)
                progress.advance(task)
    return {name: tuple(values) for name, values in seconds.items()}


@contextmanager
def watched(measure: Callable[[], int]) -> Iterator[list[int]]:
    """What `measure` tells every 5 ms, such as the memory in use, while a block runs."""
    seen, ended = [measure()], Event()

    def watch() -> None:
        while not ended.wait(0.005):
            seen.append(measure())

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def rows(
    values: Mapping[str, tuple[float, ...]],
    reference: str,
    targets: Mapping[str, float] | None = None,
    notes: Mapping[str, str] | None = None,
    lower_is_better: bool = True,
) -> list[Row]:
    """Rows with ratios of medians to the `reference`'s, so turned that above 1 is better."""
    base = median(values[reference])

    def ratio(own: tuple[float, ...]) -> float:
        return base / median(own) if lower_is_better else median(own) / base

    return [
        Row(name, own, ratio(own), (targets or {}).get(name), (notes or {}).get(name, ""))
        for name, own in values.items()
    ]


def write(topic: str, tables: list[Table]) -> None:
    """Print the tables and keep them, with machine, versions and date, for report.py."""
    from lookalike.device import machine

    RESULTS.mkdir(exist_ok=True)
    packages = dict.fromkeys(name for table in tables for name in table.packages)
    content = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": {name: _version(name) for name in packages},
        "tables": [asdict(table) for table in tables],
    }
    (RESULTS / f"{topic}.json").write_text(json.dumps(content, indent=1) + "\n")
    for table in tables:
        print("\n".join(lines_of(table)))


def lines_of(table: Table) -> list[str]:
    """A table as Markdown."""
    head = f"| | {table.unit}, median | min - max | ratio to {table.reference} | target | |"
    lines = [f"### {table.title}", f"`{table.command}`", "", head, "|---|---|---|---|---|---|"]
    lines += [_line(row) for row in table.rows]
    for note in table.notes:
        lines += ["", note]
    return [*lines, ""]


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    target = "" if row.target is None else f"≥ {row.target:.3g}"
    if not row.values:
        return f"| {row.name} | not measured | | | {target} | |"
    met = {None: "", True: "met", False: "**missed**"}[row.met]
    spread = f"{_figure(min(row.values))} - {_figure(max(row.values))}"
    note = f" ({row.note})" if row.note else ""
    cells = [f"{row.name}{note}", _figure(median(row.values)), spread, ratio, target, met]
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_results() -> dict[str, Any]:
    """Every topic's last results."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
