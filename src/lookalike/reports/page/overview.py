"""Charts over many runs: scores with intervals, curves, recall, hyper-parameters, costs."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from math import isnan
from typing import Any

import numpy as np

from lookalike.reports.comparison import Setting, interval, shown, value_of
from lookalike.reports.page.svg import BOTTOM, TOP, Axis, Chart, Series, legend
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import title

LOOKS = 6  # settings told apart in a chart; the others are grey
BARS = 24  # settings with a bar of their own
CATEGORIES = 12
FEW = 12  # points of a line, and lines, up to which points are marked
SPREAD = 8.0  # from here on, largest over smallest value, an axis is logarithmic

Points = list[tuple[float, float]]


def figure(
    name: str, chart: Chart | str, caption: str, below: str = "", after: str = "", kind: str = ""
) -> str:
    """A chart under its title, with a legend, a sentence, and more after it."""
    return (
        f'<figure class="chart {kind}"><h4>{escape(name)}</h4>{chart}{below}'
        f"<figcaption>{caption}</figcaption>{after}</figure>"
    )


def ranked(settings: Sequence[Setting], metric: str) -> list[Setting]:
    """The best validation score first; by the test score only where nothing was validated."""

    def key(setting: Setting) -> tuple[bool, float]:
        validated, tested = (interval(setting, f"{part}/{metric}").mean for part in ("val", "test"))
        value = tested if isnan(validated) else validated
        return isnan(value), -value

    return sorted(settings, key=key)


def intervals(settings: Sequence[Setting], metric: str) -> str:
    """A test score of every setting, with its interval and its runs."""
    drawn = [s for s in settings if not isnan(interval(s, metric).mean)][:BARS]
    if not drawn:
        return ""
    scores = [interval(setting, metric) for setting in drawn]
    ends = [score.mean + sign * _half(score.half_width) for score in scores for sign in (-1, 1)]
    values = [run.number(metric) for setting in drawn for run in setting.runs]
    chart, places = _rows(
        [setting.short or "all runs" for setting in drawn],
        Axis.around(title(metric), [*ends, *(v for v in values if v is not None)]),
        "; ".join(f"{s.label}: {score.mean:.4f}" for s, score in zip(drawn, scores, strict=True)),
    )
    for setting, score, place in zip(drawn, scores, places, strict=True):
        runs = [(v, place) for run in setting.runs if (v := run.number(metric)) is not None]
        chart.points(Series("runs", runs, 7, [run.name for run in setting.runs]), quiet=True)
        if score.half_width > 0:
            chart.interval(score.mean - score.half_width, score.mean + score.half_width, place)
        chart.points(Series("mean", [(score.mean, place)], 1, [f"{score.mean:.4f}"]))
    more = len(settings) - len(drawn)
    caption = (
        f"Dots: runs; squares: means; bars: 95 % t-intervals over seeds. {_keys(settings)}"
    ) + (f" {more} settings with lower validation scores are in the table only." if more else "")
    return figure(title(metric), chart, caption)


def curves(settings: Sequence[Setting], name: str, label: str) -> str:
    """A logged value over epochs, a line a run."""

    def points_of(run: SavedRun) -> Points:
        curve = run.curves.get(name)
        return [] if curve is None else list(zip(*_floats(curve.epochs, curve.values), strict=True))

    return _lines(settings, points_of, title(name), "epochs trained", label)


def recalls(settings: Sequence[Setting]) -> str:
    """Test recall@k over k, a line a run."""
    stem = "test/recall_at_"

    def points_of(run: SavedRun) -> Points:
        found = [(float(n.removeprefix(stem)), n) for n in run.metrics if n.startswith(stem)]
        return [(k, value) for k, n in sorted(found) if (value := run.number(n)) is not None]

    label = "recall@k, share of queries"
    return _lines(settings, points_of, "Test recall at k", "k, nearest images", label, log=True)


def effects(runs: Sequence[SavedRun], keys: Sequence[str], metric: str) -> str:
    """What each hyper-parameter does to a score; the one whose means differ most comes first."""
    drawn = [found for key in keys if (found := _effect(runs, key, metric, len(keys) > 1))]
    return "".join(html for _, html in sorted(drawn, key=lambda pair: -pair[0]))


def costs(settings: Sequence[Setting], metric: str) -> str:
    """A score over what it costs: seconds, parameters, memory, and over the speed of training."""
    names = {
        "training_seconds": "training time, seconds",
        "parameters": "parameters of the embedder",
        "images_per_second": "images per second in training",
        "peak_memory_mebibytes": "peak memory, MiB",
        "peak_gpu_memory_mebibytes": "peak memory of the GPU, MiB",
    }
    drawn = "".join(_cost(settings, metric, name, label) for name, label in names.items())
    return f'<div class="figures">{drawn}</div>' if drawn else ""


def _lines(
    settings: Sequence[Setting],
    points_of: Callable[[SavedRun], Points],
    name: str,
    x: str,
    y: str,
    log: bool = False,
) -> str:
    """Lines of all runs; repetitions look alike, and what has no look of its own is grey."""
    lines = [[points for run in s.runs if (points := points_of(run))] for s in settings]
    every = [point for of_setting in lines for points in of_setting for point in points]
    if not every:
        return ""
    across, up = zip(*every, strict=True)
    horizontal = Axis.around(x, across, log) if log else Axis(x, min(0.0, *across), max(across))
    if horizontal.low == horizontal.high:
        horizontal = Axis(x, 0, 1)
    if log:
        horizontal = replace(horizontal, ticks=tuple((k, f"{k:g}") for k in sorted(set(across))))
    count = sum(map(len, lines))
    text = f"{name}: {count} lines, values from {min(up):.4g} to {max(up):.4g}"
    chart = Chart(horizontal, Axis.around(y, up), text)
    chart.many_lines([points for of_setting in lines[LOOKS:] for points in of_setting])
    for look, (setting, of_setting) in reversed(list(enumerate(zip(settings, lines, strict=True)))):
        if look >= LOOKS:
            continue
        for points in of_setting:
            chart.line(Series(setting.label, points, look))
            if len(points) <= FEW and count <= FEW:
                chart.points(Series(setting.label, points, look))
    named = [(s.short, look) for look, s in enumerate(settings[:LOOKS]) if s.short and lines[look]]
    grey = sum(map(len, lines[LOOKS:]))
    caption = f"{count} run{'s' if count != 1 else ''}" + (
        f"; the {LOOKS} settings with the best validation scores in colour, {grey} others grey."
        if grey
        else "."
    )
    caption = f"{caption} {_keys(settings)}"
    return figure(name, chart, caption, legend(named, lines=True) if named else "")


def _effect(
    runs: Sequence[SavedRun], key: str, metric: str, others: bool
) -> tuple[float, str] | None:
    by_value: dict[Any, list[float]] = defaultdict(list)
    for run in runs:
        if run.trained and (score := run.number(metric)) is not None:
            by_value[value_of(run, key)].append(score)
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in by_value)
    if len(by_value) < 2 or (not numeric and len(by_value) > CATEGORIES):
        return None
    means = {value: float(np.mean(found)) for value, found in by_value.items()}
    effect = max(means.values()) - min(means.values())
    text = f"{key}: " + "; ".join(f"{shown(v)}: {mean:.4f}" for v, mean in means.items())
    scores = Axis.around(title(metric), [score for found in by_value.values() for score in found])
    chart = (
        _over_numbers(key, scores, by_value, means, text)
        if numeric
        else _over_names(scores, by_value, means, text)
    )
    caption = f"Means (squares) differ by {effect:.4f}." + (
        " Other hyper-parameters vary too." if others else ""
    )
    return effect, figure(key, chart, caption)


def _over_numbers(
    key: str, scores: Axis, by_value: dict[Any, list[float]], means: dict[Any, float], text: str
) -> Chart:
    values = sorted(float(value) for value in by_value)
    log = values[0] > 0 and values[-1] / values[0] >= SPREAD
    axis = Axis.around(key, values, log)
    if len(values) <= LOOKS:
        axis = replace(axis, ticks=tuple((value, shown(value)) for value in values))
    chart = Chart(axis, scores, text)
    for value, found in by_value.items():
        _runs_and_mean(chart, shown(value), found, [(float(value), score) for score in found])
    chart.line(Series("mean", sorted((float(v), mean) for v, mean in means.items()), 1))
    return chart


def _over_names(
    scores: Axis, by_value: dict[Any, list[float]], means: dict[Any, float], text: str
) -> Chart:
    ordered = sorted(by_value, key=lambda value: -means[value])
    chart, places = _rows([shown(value) for value in ordered], scores, text)
    for value, place in zip(ordered, places, strict=True):
        found = by_value[value]
        _runs_and_mean(chart, shown(value), found, [(score, place) for score in found])
    return chart


def _runs_and_mean(chart: Chart, name: str, scores: Sequence[float], points: Points) -> None:
    titles = [f"{name}: {score:.4f}" for score in scores]
    chart.points(Series("runs", points, 7, titles), quiet=True)
    x, y = np.mean(points, axis=0).tolist()
    chart.points(Series("mean", [(x, y)], 1, [f"{name}: mean {np.mean(scores):.4f}"]))


def _rows(labels: Sequence[str], x: Axis, text: str) -> tuple[Chart, list[float]]:
    """A chart with a row for each label, the first on top, and where the rows are."""
    labels = [_end(label, 28) for label in labels]
    places = [float(len(labels) - row) for row in range(len(labels))]
    chart = Chart(
        x,
        Axis("", 0.4, len(labels) + 0.6, ticks=tuple(zip(places, labels, strict=True))),
        text,
        height=TOP + BOTTOM + 24 * len(labels) + 10,
        left=20 + 7 * max(map(len, labels)),
    )
    return chart, places


def _cost(settings: Sequence[Setting], metric: str, name: str, label: str) -> str:
    points = {
        setting: [
            (cost, score, run.name)
            for run in setting.runs
            if (cost := run.number(name)) and (score := run.number(metric)) is not None
        ]
        for setting in settings
    }
    every = [point for found in points.values() for point in found]
    across = [cost for cost, _, _ in every]
    if len(set(across)) < 2:
        return ""
    log = max(across) / min(across) >= SPREAD
    chart = Chart(
        Axis.around(label, across, log),
        Axis.around(title(metric), [score for _, score, _ in every]),
        f"{title(metric)} of {len(every)} runs over {label}.",
    )
    for look, (setting, found) in reversed(list(enumerate(points.items()))):  # the best on top
        places = [(cost, score) for cost, score, _ in found]
        names = [f"{setting.label} ({run})" for _, _, run in found]
        grey = look >= LOOKS
        chart.points(Series(setting.label, places, 7 if grey else look, names), quiet=grey)
    named = [(s.short, look) for look, s in enumerate(settings[:LOOKS]) if s.short and points[s]]
    caption = f"{len(every)} runs. {_keys(settings)}"
    caption += " Other settings are grey." if len(settings) > LOOKS else ""
    name = f"{title(metric)} and {label.split(',')[0]}"
    return figure(name, chart, caption, legend(named) if named else "")


def _keys(settings: Sequence[Setting]) -> str:
    """What the values in a legend are values of."""
    keys = ", ".join(settings[0].values)
    return escape(f"Settings: {keys}.") if keys else ""


def _half(width: float) -> float:
    return 0.0 if isnan(width) else width


def _floats(*columns: Any) -> list[list[float]]:
    return [column.tolist() for column in columns]


def _end(text: str, length: int) -> str:
    """Names differ at the end."""
    return text if len(text) <= length else f"…{text[1 - length :]}"
