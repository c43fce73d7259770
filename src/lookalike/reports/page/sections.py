"""The sections of the page, each as HTML; a section without anything to show is empty."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from markupsafe import Markup

from lookalike.reports.cell_table import COSTS, explained
from lookalike.reports.cells import Line, shown
from lookalike.reports.comparison import comparable, value_of
from lookalike.reports.page import overview, sortable
from lookalike.reports.page.costs import cost_figures
from lookalike.reports.page.effects import effect_figures
from lookalike.reports.page.figures import Figure
from lookalike.reports.page.parts import Part
from lookalike.reports.page.rendering import rendered
from lookalike.reports.page.sortable import Cell, Heading, Row, Sortable
from lookalike.reports.page.ties import Tie
from lookalike.reports.saved import REPETITIONS, SavedRun
from lookalike.reports.tables import title
from lookalike.reports.verdicts import on_verdicts

RECALL = "test/recall_at_1"  # drawn beside the metric asked for


def warnings(runs: Sequence[SavedRun]) -> list[str]:
    """What makes scores mean less than they seem to."""
    told = []
    if not comparable(runs):
        told.append(
            "These runs were tested on different images: their scores can't be compared. "
            "Tables and charts show together only those that were tested on the same images."
        )
    if any(_saw_dogs(run) for run in runs):
        told.append(
            "Stanford Dogs is cut from ImageNet: a backbone pretrained there has seen these very "
            "images, so that no breed is new to it."
        )
    left_out = max(run.number("test/queries_without_positive") or 0 for run in runs)
    if left_out:
        told.append(f"Up to {left_out:g} test queries have no relevant image; they are in no mean.")
    return told


def scores(part: Part, test: str) -> Markup:
    """The table of settings and charts of test scores.

    Args:
        part: runs tested on the same images.
        test: the metric that stands first.
    """
    lines = part.lines
    drawn = [n for n in dict.fromkeys((test, RECALL)) if n in lines[0].scores]
    several = sum(len(line.setting.runs) for line in lines) > 1
    charts = [overview.interval_figure(lines, name) for name in drawn] if several else []
    return rendered(
        "scores",
        scores=sortable.scores(part.table_lines),
        notes=[
            *explained(part.table_lines, metric=test),
            *on_verdicts(part.runs, test.removeprefix("test/")),
        ],
        charts=[chart for chart in charts if chart],
    )


def runs(part: Part, searched: Sequence[str], further: Sequence[str]) -> Markup:
    """The table of runs, sorted and filtered in the browser.

    Args:
        part: runs tested on the same images.
        searched: hyper-parameters by which the filter finds them.
        further: numbers of metrics.json between the scores and the costs; a column that no run
            fills is left out.
    """
    costs = (cost for cost in COSTS if cost != "wall_time_seconds")
    names = [*part.metrics, *further, *costs]
    filled = [n for n in names if any(run.number(n) is not None for run in part.runs)]
    head = [Heading("run"), *map(Heading, part.keys), *(Heading(title(n), True) for n in filled)]
    rows = [_run(run, part.keys, filled, searched) for run in part.runs]
    return rendered("runs", runs=sortable.numbers_in_view(Sortable(head, rows)))


def learning(lines: Sequence[Line], metric: str) -> Markup:
    """Validation score and training loss over epochs, and recall over k."""
    return _figures(
        [
            overview.curve_figure(lines, f"val/{metric}", "score, in [0, 1]"),
            overview.curve_figure(lines, "train/loss", "loss of a batch"),
            overview.recall_figure(lines),
        ]
    )


def effects(runs: Sequence[SavedRun], keys: Sequence[str], metric: str) -> Markup:
    """A score against each hyper-parameter."""
    return _figures(effect_figures(runs, [k for k in keys if k not in REPETITIONS], metric))


def costs(lines: Sequence[Line], metric: str) -> Markup:
    """A score against each cost."""
    return _figures(cost_figures(lines, metric))


def difference(runs: Sequence[SavedRun]) -> Markup:
    """Two runs chosen in the browser, and where they differ; of a single run its configuration."""
    if len(runs) < 2:
        rows = [Row([Cell(key), Cell(shown(v))]) for key, v in runs[0].config.items()]
        values = Sortable([Heading("key"), Heading("value")], rows)
        return rendered("configuration", values=values)
    every = dict.fromkeys(key for run in runs for key in (*run.choices, *run.config))
    keys = [key for key in every if len({value_of(run, key) for run in runs}) > 1]
    told = [{"name": run.name, "values": [_held(run, key) for key in keys]} for run in runs]
    return rendered("difference", held={"keys": keys, "runs": told})


def origin(runs: Sequence[SavedRun]) -> Markup:
    """Folders, commits and versions."""
    packages = sorted({name for run in runs for name in run.metrics.get("versions", {})})
    return rendered(
        "origin",
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
        runs=len(runs),
        folders=_distinct(runs, lambda run: run.folder.parent),
        commits=_distinct(runs, lambda run: run.metrics.get("git_commit")),
        versions=[f"{name} {', '.join(_versions(runs, name))}" for name in packages],
    )


def _figures(found: Iterable[Figure | None]) -> Markup:
    several = [figure for figure in found if figure is not None]
    return rendered("figures", several=several) if several else Markup()


def _saw_dogs(run: SavedRun) -> bool:
    return run.choices.get("data") == "dogs" and bool(value_of(run, "backbone.weights"))


def _run(
    run: SavedRun, keys: Sequence[str], numbers: Sequence[str], searched: Sequence[str]
) -> Row:
    words = [run.name, *(f"{key}={shown(value_of(run, key))}" for key in searched)]
    cells = [sortable.named(run.name, hint=str(run.folder))]
    cells += [sortable.named(shown(value_of(run, key)), key) for key in keys]
    cells += [sortable.number(value := run.number(n), _told(n, value)) for n in numbers]
    return Row(cells, Tie([run]), " ".join(words).lower())


def _told(name: str, value: float | None) -> str:
    """A score with four digits, a count with thin spaces between thousands."""
    if value is None:
        return ""
    return f"{value:.4f}" if "/" in name else f"{value:,.10g}".replace(",", "\u2009")


def _held(run: SavedRun, key: str) -> str:
    """A value, or nothing where the run's configuration has no such key."""
    has = key in run.choices or key in run.config
    return shown(value_of(run, key)) if has else ""


def _versions(runs: Sequence[SavedRun], package: str) -> list[str]:
    return _distinct(runs, lambda run: run.metrics.get("versions", {}).get(package))


def _distinct(runs: Sequence[SavedRun], value: Callable[[SavedRun], object]) -> list[str]:
    return sorted({str(found) for run in runs if (found := value(run))})
