"""One HTML page on one run, on many, or on a sweep; it holds all it needs and works offline."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from math import isnan

from lookalike.reports import tables
from lookalike.reports.comparison import (
    REPETITIONS,
    Setting,
    comparable,
    differing,
    interval,
    settings,
    shown,
    value_of,
)
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page import overview
from lookalike.reports.page.closeup import Lens, close_up
from lookalike.reports.page.thumbnails import Sheets
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import COSTS, title

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
        self.settings = overview.ranked(settings(runs, self.keys), metric)
        by_run = [Setting({}, (run,)) for run in runs]
        self.runs = [setting.runs[0] for setting in overview.ranked(by_run, metric)]
        wanted = dict.fromkeys((metric, *ALSO))
        names = [f"{part}/{name}" for part in ("val", "test") for name in wanted]
        self.metrics = [n for n in names if any(run.number(n) is not None for run in runs)]

    def files(self) -> dict[str, str]:
        """Tables by file name."""
        rows = tables.scores(self.settings, self.metrics)
        return {
            "scores.md": tables.markdown(rows),
            "scores.tex": tables.latex(rows),
            "scores.csv": tables.comma_separated(rows),
            "runs.csv": tables.comma_separated(tables.all_runs(self.runs, self.keys, self.metrics)),
        }


def page(comparison: Comparison, kept: Mapping[SavedRun, TestedImages | None], lens: Lens) -> str:
    """The page.

    Args:
        comparison: of the runs.
        kept: the runs to be looked at closely, with the test embeddings that they kept.
        lens: how.
    """
    runs = comparison.runs
    sheets = Sheets()
    sections = [
        ("scores", "Scores", _scores(comparison)),
        ("runs-table", "Runs", _runs(comparison)),
        ("curves", "Learning", _curves(comparison)),
        ("effects", "Hyper-parameters", _effects(comparison)),
        ("costs", "Cost and quality", overview.costs(comparison.settings, comparison.test)),
        (
            "difference",
            "Two runs compared" if len(runs) > 1 else "Configuration",
            _difference(comparison),
        ),
        *(
            (
                f"run{number}",
                f"Close-up: {_told(run, comparison.keys)}",
                _close_up(run, tested, lens, sheets),
            )
            for number, (run, tested) in enumerate(kept.items())
        ),
        ("origin", "Where this comes from", _origin(runs)),
    ]
    filled = [(name, heading, body) for name, heading, body in sections if body]
    heading = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    links = "".join(f'<a href="#{name}">{escape(_end(h, LINK))}</a>' for name, h, _ in filled)
    bodies = "".join(f'<h2 id="{name}">{escape(h)}</h2>{body}' for name, h, body in filled)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # or the browser asks for one
        f"<title>{escape(heading)} · lookalike</title>"
        f"<style>{_asset('page.css')}{sheets.style()}</style></head><body>"
        f"<header><h1>{escape(heading)}</h1>{_warnings(runs)}<nav>{links}</nav></header>"
        f'<main>{bodies}</main><div id="hint" hidden><i></i><span></span></div>'
        f"<script>{_asset('page.js')}</script></body></html>\n"
    )


def _warnings(runs: Sequence[SavedRun]) -> str:
    """What makes scores mean less than they seem to."""
    told = []
    if not comparable(runs):
        told.append("These runs were tested on different images: their scores can't be compared.")
    seen = [
        run
        for run in runs
        if run.choices.get("data") == "dogs" and value_of(run, "backbone.weights")
    ]
    if seen:
        told.append(
            "Stanford Dogs is cut from ImageNet: a backbone pretrained there has seen these very "
            "images, so that no breed is new to it."
        )
    left_out = max(run.number("test/queries_without_positive") or 0 for run in runs)
    if left_out:
        told.append(f"Up to {left_out:g} test queries have no relevant image; they are in no mean.")
    return "".join(f'<p class="note">{escape(line)}</p>' for line in told)


def _scores(comparison: Comparison) -> str:
    rows = tables.scores(comparison.settings, comparison.metrics)
    keys = len(rows[0]) - len(comparison.metrics)
    heading = "".join(
        f"<th{' class=number' if column >= keys - 1 else ''}><button>{escape(cell)}</button></th>"
        for column, cell in enumerate(rows[0])
    )
    lines = []
    for setting, row in zip(comparison.settings, rows[1:], strict=True):
        named = "".join(f"<td>{escape(cell)}</td>" for cell in row[: keys - 1])
        means = [interval(setting, metric).mean for metric in comparison.metrics]
        cells = "".join(
            f'<td class="number" data-v="{"" if isnan(mean) else mean}">{cell}</td>'
            for mean, cell in zip(means, row[keys:], strict=True)
        )
        lines.append(f'<tr>{named}<td class="number">{row[keys - 1]}</td>{cells}</tr>')
    charts = "".join(
        overview.intervals(comparison.settings, metric)
        for metric in dict.fromkeys((comparison.test, "test/recall_at_1"))
    )
    copies = "".join(
        f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>"
        for name, text in comparison.files().items()
        if name in ("scores.md", "scores.tex")
    )
    return (
        "<p>Ordered by validation, which chooses; test scores are for reading, not for choosing. "
        "Where seeds repeat a setting: mean ± half of the 95 % t-interval.</p>"
        f"{_table(heading, lines)}"
        f'<div class="figures">{charts if len(comparison.runs) > 1 else ""}</div>{copies}'
    )


def _runs(comparison: Comparison) -> str:
    """The table of runs, sorted and filtered in the browser."""
    runs = comparison.runs
    epochs = ["epoch_0/test/" + comparison.metric, "epoch"]
    numbers = [*comparison.metrics, *epochs, *COSTS]
    numbers = [name for name in numbers if any(run.number(name) is not None for run in runs)]
    heading = "".join(
        f"<th><button>{escape(key)}</button></th>" for key in ("run", *comparison.keys)
    )
    heading += "".join(
        f'<th class="number"><button>{escape(title(name))}</button></th>' for name in numbers
    )
    lines = [_run(run, comparison.keys, numbers) for run in runs]
    control = (
        '<div class="controls"><input type="search" id="filter" aria-label="Filter runs" '
        'placeholder="Filter: triplet seed=0"><span id="shown" class="quiet" role="status">'
        f"{len(runs)} of {len(runs)} runs</span></div>"
    )
    return (control if len(runs) > 1 else "") + _table(heading, lines, "runs")


def _run(run: SavedRun, keys: Sequence[str], numbers: Sequence[str]) -> str:
    values = [shown(value_of(run, key)) for key in keys]
    words = [run.name, *(f"{key}={value}" for key, value in zip(keys, values, strict=True))]
    cells = "".join(f"<td>{escape(value)}</td>" for value in values)
    for name in numbers:
        value = run.number(name)
        if value is None:
            cells += '<td class="number"></td>'
        else:
            text = f"{value:.4f}" if "/" in name else f"{value:,.10g}".replace(",", "\u2009")
            cells += f'<td class="number" data-v="{value!r}">{text}</td>'
    return (
        f'<tr data-words="{escape(" ".join(words).lower())}">'
        f'<td title="{escape(str(run.folder))}">{escape(run.name)}</td>{cells}</tr>'
    )


def _told(run: SavedRun, keys: Sequence[str]) -> str:
    """Which of several runs it is."""
    return Setting({key: value_of(run, key) for key in keys}, (run,)).label or run.name


def _table(heading: str, lines: Sequence[str], id_: str = "") -> str:
    named = f' id="{id_}"' if id_ else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="sortable"{named}><thead><tr>{heading}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _curves(comparison: Comparison) -> str:
    found = comparison.settings
    parts = [
        overview.curves(found, f"val/{comparison.metric}", "score, in [0, 1]"),
        overview.curves(found, "train/loss", "loss of a batch"),
        overview.recalls(found),
    ]
    return f'<div class="figures">{"".join(parts)}</div>' if any(parts) else ""


def _effects(comparison: Comparison) -> str:
    keys = [key for key in comparison.keys if key not in REPETITIONS]
    drawn = overview.effects(comparison.runs, keys, comparison.test)
    return f'<div class="figures">{drawn}</div>' if drawn else ""


def _difference(comparison: Comparison) -> str:
    """Two runs chosen in the browser, and where their configurations differ."""
    runs = comparison.runs
    if len(runs) < 2:
        rows = "".join(
            f"<tr><td>{escape(key)}</td><td>{escape(shown(value))}</td></tr>"
            for key, value in runs[0].config.items()
        )
        table = _table("<th>key</th><th>value</th>", [rows])
        return f"<details><summary>The configuration of this run</summary>{table}</details>"
    every = dict.fromkeys(key for run in runs for key in (*run.choices, *run.config))
    keys = [key for key in every if len({value_of(run, key) for run in runs}) > 1]
    held = {
        "keys": keys,
        "runs": [{"name": run.name, "values": [_held(run, key) for key in keys]} for run in runs],
    }
    # "</script>" inside of a value would end it
    data = json.dumps(held, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<script type="application/json" id="configs">{data}</script><div id="diff">'
        '<div class="controls"><select aria-label="First run"></select>'
        '<select aria-label="Second run"></select></div><div class="scroll" tabindex="0"><table>'
        "<thead><tr><th>key</th><th>first</th><th>second</th></tr></thead><tbody></tbody></table>"
        "</div></div>"
    )


def _held(run: SavedRun, key: str) -> str:
    """A value, or nothing where the run's configuration has no such key."""
    has = key in run.choices or key in run.config
    return shown(value_of(run, key)) if has else ""


def _close_up(run: SavedRun, tested: TestedImages | None, lens: Lens, sheets: Sheets) -> str:
    if tested is not None:
        return close_up(tested, lens, sheets)
    return (
        "<p>This run kept no test embeddings. To see its neighbours, similarities and hubs:</p>"
        f"<pre>lookalike report runs={escape(str(run.folder))} embed=true</pre>"
        "<p>New runs keep them with <code>report=embeddings</code>.</p>"
    )


def _origin(runs: Sequence[SavedRun]) -> str:
    def told(values: Callable[[SavedRun], object]) -> str:
        return escape(", ".join(sorted({str(values(run)) for run in runs if values(run)})))

    packages = sorted({name for run in runs for name in run.metrics.get("versions", {})})
    versions = "; ".join(
        f"{name} {told(lambda run, name=name: run.metrics.get('versions', {}).get(name))}"
        for name in packages
    )
    listing = "\n".join(sorted({str(run.folder.parent) for run in runs}))
    commits = told(lambda run: run.metrics.get("git_commit"))
    return (
        f"<p>Made {datetime.now():%Y-%m-%d %H:%M} from {len(runs)} finished runs in</p>"
        f"<pre>{escape(listing)}</pre><p>Commits: {commits}.<br>{versions}.</p>"
    )


def _end(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:10]}…{text[11 - length :]}"


def _asset(name: str) -> str:
    return files("lookalike.reports.page").joinpath(name).read_text(encoding="utf-8")
