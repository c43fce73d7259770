"""One HTML page on one run, on many, or on a sweep; it holds all it needs and works offline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from markupsafe import Markup

from lookalike.progress import track
from lookalike.reports.cells import Setting
from lookalike.reports.comparison import differing, settings, value_of
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page import sections
from lookalike.reports.page.closeup import Lens, close_up
from lookalike.reports.page.files import table_files
from lookalike.reports.page.labels import short_labels
from lookalike.reports.page.parts import Part, parts_of
from lookalike.reports.page.rendering import asset, content_policy, rendered
from lookalike.reports.page.thumbnails import Sheets
from lookalike.reports.page.ties import Tie
from lookalike.reports.saved import SEED, SavedRun
from lookalike.reports.style import custom_properties

SECTIONS = 7  # without close-ups


class Comparison:
    """Runs, of which only those tested on the same images are compared.

    Args:
        runs: at least one.
        metric: that stands first, without its split.
    """

    def __init__(self, runs: Sequence[SavedRun], metric: str) -> None:
        self.metric = metric
        self.test = f"test/{metric}"
        self.keys = differing(runs)
        self.parts = parts_of(runs, metric)
        # the best of each part come first, so that a few runs looked at closely are of all parts
        ranked = zip_longest(*(part.runs for part in self.parts))
        self.runs = [run for place in ranked for run in place if run is not None]

    def files(self) -> dict[str, str]:
        """Tables by file name."""
        return table_files(self.parts, self.keys, self.test)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        name: the id of its heading.
        heading: what it shows.
        body: HTML; what has none is left out.
        link: a short heading; nothing takes the whole.
    """

    name: str
    heading: str
    body: Markup
    link: str = ""


def page(comparison: Comparison, kept: Mapping[SavedRun, TestedImages | None], lens: Lens) -> str:
    """The page; meanwhile the terminal shows a progress bar.

    Args:
        comparison: of the runs.
        kept: the runs to be looked at closely, with the test embeddings that they kept.
        lens: how.
    """
    runs = comparison.runs
    sheets = Sheets()
    parts = track(
        _sections(comparison, kept, lens, sheets),
        "Making the page",
        total=SECTIONS + len(kept),
    )
    filled = [part for part in parts if part.body]  # made first: they fill `sheets`
    style = Markup(custom_properties()) + asset("page.css") + Markup(sheets.style())
    script = asset("page.js")
    return rendered(
        "page",
        policy=content_policy(style, script),
        heading=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        runs=len(runs),
        warnings=sections.warnings(runs),
        sections=filled,
        style=style,
        script=script,
    )


def _sections(
    comparison: Comparison,
    kept: Mapping[SavedRun, TestedImages | None],
    lens: Lens,
    sheets: Sheets,
) -> Iterator[Section]:
    """All of them, one after the other, as they are made."""
    yield from _on_all(comparison)
    yield from _close_ups(comparison, kept, lens, sheets)
    yield Section("origin", "Where this comes from", sections.origin(comparison.runs))


def _on_all(comparison: Comparison) -> Iterator[Section]:
    """What all runs say together."""
    parts, keys = comparison.parts, comparison.keys
    metric, test = comparison.metric, comparison.test
    files = comparison.files()
    copies = rendered(
        "copies", copies=[(name, files[name]) for name in ("scores.md", "scores.tex")]
    )
    scores = _each(parts, lambda part: sections.scores(part, test))
    yield Section("scores", "Scores", scores + copies)
    further = [f"frozen/test/{metric}", f"epoch_0/test/{metric}", "epoch"]
    yield Section("runs", "Runs", _each(parts, lambda part: sections.runs(part, keys, further)))
    curves = _each(parts, lambda part: sections.learning(part.lines, metric))
    yield Section("curves", "Learning", curves)
    effects = _each(parts, lambda part: sections.effects(part.runs, part.keys, test))
    yield Section("effects", "Hyper-parameters", effects)
    costs = _each(parts, lambda part: sections.costs(part.lines, test))
    yield Section("costs", "Cost and quality", costs)
    heading = "Two runs compared" if len(comparison.runs) > 1 else "Configuration"
    runs = [run for part in parts for run in part.runs]
    yield Section("difference", heading, sections.difference(runs))


def _each(parts: Sequence[Part], draw: Callable[[Part], Markup]) -> Markup:
    """What is drawn of each part, below its title if there are several."""
    drawn = [(part.title, Tie(part.runs), body) for part in parts if (body := draw(part))]
    return rendered("parts", parts=drawn, titled=len(parts) > 1) if drawn else Markup()


def _close_ups(
    comparison: Comparison,
    kept: Mapping[SavedRun, TestedImages | None],
    lens: Lens,
    sheets: Sheets,
) -> Iterator[Section]:
    found = settings(comparison.runs, comparison.keys)
    short = dict(zip(found, short_labels(found), strict=True))
    labels = {run: label for setting, label in short.items() for run in setting.runs}
    for number, (run, tested) in enumerate(kept.items()):
        values = {key: value_of(run, key) for key in comparison.keys}
        named = Setting(values, (run,)).label or run.name
        if tested is None:
            body = rendered("not_kept", folder=run.folder)
        else:
            body = close_up(tested, lens, sheets)
        seed = f"seed {run.seed}" if SEED in comparison.keys else ""
        link = ", ".join(filter(None, [labels[run], seed])) or run.name
        yield Section(f"run{number}", f"Close-up: {named}", body, f"Close-up: {link}")
