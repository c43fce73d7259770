"""One HTML page on one run, on many, or on a sweep; it holds all it needs and works offline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lookalike.reports.cell_table import explained, number_table, run_table, score_table
from lookalike.reports.cells import Setting, best_first, compare, direction
from lookalike.reports.comparison import differing, settings, value_of
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page import sections
from lookalike.reports.page.closeup import Lens, close_up
from lookalike.reports.page.rendering import asset, rendered
from lookalike.reports.page.thumbnails import Sheets
from lookalike.reports.saved import SavedRun
from lookalike.reports.style import custom_properties
from lookalike.reports.tables import comma_separated, latex, markdown

LINK = 40  # characters of a link
ALSO = ("recall_at_1", "map_at_r", "r_precision", "map")  # shown beside the metric asked for


class Comparison:
    """Runs with what differs between them, ordered by validation.

    Args:
        runs: at least one.
        metric: that stands first, without its split.
    """

    def __init__(self, runs: Sequence[SavedRun], metric: str) -> None:
        self.metric = metric
        self.test = f"test/{metric}"
        self.keys = differing(runs)
        chosen = (f"val/{metric}", self.test)  # by the test only where nothing was validated
        names = [f"{part}/{n}" for part in ("val", "test") for n in dict.fromkeys((metric, *ALSO))]
        found = [n for n in names if any(run.number(n) is not None for run in runs)]
        self.metrics = found or [self.test]
        scored = compare(settings(runs, self.keys), list(dict.fromkeys((*self.metrics, *chosen))))
        self.lines = best_first(scored, chosen)
        self.runs = sorted(runs, key=lambda run: _rank(run, chosen))

    def files(self) -> dict[str, str]:
        """Tables by file name."""
        lines = sections.with_metrics(self.lines, self.metrics)
        table = score_table(lines, explained(lines, metric=self.test), by_key=True)
        runs = run_table([line.setting for line in lines], self.metrics)
        return {
            "scores.md": markdown(table),
            "scores.tex": latex(table),
            "scores.csv": comma_separated(number_table(lines)),
            "runs.csv": comma_separated(runs),
        }


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        name: the id of its heading.
        heading: what it shows.
        body: HTML; what has none is left out.
    """

    name: str
    heading: str
    body: Markup

    @property
    def link(self) -> str:
        """The heading, with its middle left out if it is long."""
        text = self.heading
        return text if len(text) <= LINK else f"{text[:10]}…{text[11 - LINK :]}"


def page(comparison: Comparison, kept: Mapping[SavedRun, TestedImages | None], lens: Lens) -> str:
    """The page.

    Args:
        comparison: of the runs.
        kept: the runs to be looked at closely, with the test embeddings that they kept.
        lens: how.
    """
    runs = comparison.runs
    sheets = Sheets()
    parts = [*_on_all(comparison), *_close_ups(comparison, kept, lens, sheets)]
    parts.append(Section("origin", "Where this comes from", sections.origin(runs)))
    return rendered(
        "page",
        heading=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        warnings=sections.warnings(runs),
        sections=[part for part in parts if part.body],
        style=Markup(custom_properties()) + asset("page.css") + Markup(sheets.style()),
        script=asset("page.js"),
    )


def _on_all(comparison: Comparison) -> Iterator[Section]:
    """What all runs say together."""
    runs, lines, metric = comparison.runs, comparison.lines, comparison.metric
    copies = {n: t for n, t in comparison.files().items() if n in ("scores.md", "scores.tex")}
    scores = sections.scores(lines, comparison.metrics, comparison.test, copies)
    yield Section("scores", "Scores", scores)
    numbers = [*comparison.metrics, f"epoch_0/test/{metric}", "epoch"]
    yield Section("runs-table", "Runs", sections.runs(runs, comparison.keys, numbers))
    yield Section("curves", "Learning", sections.learning(lines, metric))
    effects = sections.effects(runs, comparison.keys, comparison.test)
    yield Section("effects", "Hyper-parameters", effects)
    yield Section("costs", "Cost and quality", sections.costs(lines, comparison.test))
    heading = "Two runs compared" if len(runs) > 1 else "Configuration"
    yield Section("difference", heading, sections.difference(runs))


def _close_ups(
    comparison: Comparison,
    kept: Mapping[SavedRun, TestedImages | None],
    lens: Lens,
    sheets: Sheets,
) -> Iterator[Section]:
    for number, (run, tested) in enumerate(kept.items()):
        values = {key: value_of(run, key) for key in comparison.keys}
        named = Setting(values, (run,)).label or run.name
        if tested is None:
            body = rendered("not_kept", folder=run.folder)
        else:
            body = close_up(tested, lens, sheets)
        yield Section(f"run{number}", f"Close-up: {named}", body)


def _rank(run: SavedRun, metrics: Sequence[str]) -> tuple[bool, float]:
    """The best by the first metric that a run has is lowest; runs without any come last."""
    for metric in metrics:
        if (value := run.number(metric)) is not None:
            return False, -direction(metric) * value
    return True, 0.0
