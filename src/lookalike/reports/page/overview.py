"""Charts over many runs: scores with intervals, curves over epochs, recall over k."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isnan

from lookalike.reports.cells import ENOUGH, Line, Score
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.figures import (
    GREY,
    LOOKS,
    Figure,
    keys_of,
    row_chart,
    setting_legend,
)
from lookalike.reports.page.svg import Chart, Point, Series
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import title

BARS = 24  # settings with a bar of their own
FEW = 12  # points of a line, and lines, up to which points are marked
RECALL = "test/recall_at_"

Points = list[Point]


def interval_figure(lines: Sequence[Line], metric: str) -> Figure | None:
    """A score of every setting, with its interval and its runs; nothing if there is no score."""
    drawn = [line for line in lines if not isnan(line.scores[metric].mean)][:BARS]
    if not drawn:
        return None
    scores = [line.scores[metric] for line in drawn]
    runs = [_numbers(line.setting.runs, metric) for line in drawn]
    values = [value for found in runs for value, _ in found]
    ends = [end for score in scores for end in _bar(score)]
    chart, places = row_chart(
        [line.setting.short or "all runs" for line in drawn],
        Axis.around(title(metric), [*values, *ends]),
        "; ".join(f"{line.setting.label}: {line.scores[metric]}" for line in drawn),
    )
    for score, found, place in zip(scores, runs, places, strict=True):
        dots = [(value, place) for value, _ in found]
        chart.points(Series("runs", dots, GREY, [name for _, name in found]), quiet=True)
        if bar := _bar(score):
            chart.interval(bar[0], bar[1], place)
        chart.points(Series("mean", [(score.mean, place)], 1, [score.interval]))
    return Figure(title(metric), chart, _on_bars(scores, lines))


def curve_figure(lines: Sequence[Line], name: str, label: str) -> Figure | None:
    """A logged value over epochs, a line a run.

    Args:
        lines: the settings.
        name: of the value, such as "val/map_at_r".
        label: of the axis, with the unit.
    """

    def points_of(run: SavedRun) -> Points:
        curve = run.curves.get(name)
        if curve is None:
            return []
        return list(zip(curve.epochs.tolist(), curve.values.tolist(), strict=True))

    found = _points(lines, points_of)
    if not any(found):
        return None
    across = [x for of_setting in found for points in of_setting for x, _ in points]
    first, last = min(0.0, *across), max(across)
    axis = Axis("epochs trained", first, last if last > first else first + 1)
    return _line_figure(lines, found, title(name), axis, label)


def recall_figure(lines: Sequence[Line]) -> Figure | None:
    """Test recall@k over k, a line a run."""

    def points_of(run: SavedRun) -> Points:
        names = [name for name in run.metrics if name.startswith(RECALL)]
        by_k = sorted((float(name.removeprefix(RECALL)), run.number(name)) for name in names)
        return [(k, value) for k, value in by_k if value is not None]

    found = _points(lines, points_of)
    if not any(found):
        return None
    across = sorted({x for of_setting in found for points in of_setting for x, _ in points})
    axis = Axis.around("k, nearest images", across, log=True)
    axis = replace(axis, ticks=tuple((k, f"{k:g}") for k in across))
    return _line_figure(lines, found, "Test recall at k", axis, "recall@k, share of queries")


def _numbers(runs: Sequence[SavedRun], metric: str) -> list[tuple[float, str]]:
    """(score, name) of the runs that have one."""
    return [(value, run.name) for run in runs if (value := run.number(metric)) is not None]


def _bar(score: Score) -> tuple[float, ...]:
    """The ends of the interval; nothing where there is none, or it has no width."""
    if isnan(score.half_width) or not score.half_width:
        return ()
    return score.mean - score.half_width, score.mean + score.half_width


def _on_bars(scores: Sequence[Score], lines: Sequence[Line]) -> str:
    bars = any(score.seeds >= ENOUGH for score in scores)
    more = len(lines) - len(scores)
    parts = [
        "Dots: runs; squares: means" + ("; bars: 95 % t-intervals over seeds." if bars else "."),
        keys_of(lines),
        f"{more} settings with lower validation scores are in the table only." if more else "",
    ]
    return " ".join(filter(None, parts))


def _points(lines: Sequence[Line], points_of: Callable[[SavedRun], Points]) -> list[list[Points]]:
    """By setting and run; runs without any are left out."""
    return [[points for run in line.setting.runs if (points := points_of(run))] for line in lines]


def _line_figure(
    lines: Sequence[Line], found: Sequence[Sequence[Points]], name: str, x: Axis, y: str
) -> Figure:
    """Lines of all runs; repetitions have the same look, and what has none of its own is grey."""
    values = [value for of_setting in found for points in of_setting for _, value in points]
    count = sum(map(len, found))
    text = f"{name}: {count} lines, values from {min(values):.4g} to {max(values):.4g}"
    chart = Chart(x, Axis.around(y, values), text)
    chart.many_lines([points for of_setting in found[LOOKS:] for points in of_setting])
    coloured = list(enumerate(zip(lines, found, strict=True)))[:LOOKS]
    for look, (line, of_setting) in reversed(coloured):  # the first on top
        for points in of_setting:
            series = Series(line.setting.label, points, look)
            chart.line(series)
            if len(points) <= FEW and count <= FEW:
                chart.points(series)
    return Figure(name, chart, _on_lines(lines, found), setting_legend(lines, found, as_lines=True))


def _on_lines(lines: Sequence[Line], found: Sequence[Sequence[Points]]) -> str:
    count, grey = sum(map(len, found)), sum(map(len, found[LOOKS:]))
    others = f"; the first {LOOKS} settings of the table in colour, {grey} others grey"
    told = f"{count} run{'s' if count != 1 else ''}{others if grey else ''}."
    return " ".join(filter(None, [told, keys_of(lines)]))
