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
    names_of,
    on_starts,
    row_chart,
    setting_legend,
    trained_and_starts,
)
from lookalike.reports.page.svg import Chart, Point, Series
from lookalike.reports.page.ties import Tie
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import title

BARS = 24  # settings with a bar of their own
FEW = 12  # points of a line, and lines, up to which points are marked
RECALL = "test/recall_at_"

Points = list[Point]
Drawn = list[tuple[SavedRun, Points]]  # of a setting


def interval_figure(lines: Sequence[Line], metric: str) -> Figure | None:
    """A score of every setting, with its interval and its runs; nothing if there is no score.

    Starting points are lines to compare with.
    """
    lines = [line for line in lines if not isnan(line.scores[metric].mean)]
    trained, starts = trained_and_starts(lines)
    if not trained:
        return None
    drawn = trained[:BARS]
    values = [value for line in drawn for value, _ in _numbers(line.setting.runs, metric)]
    ends = [end for line in drawn for end in _bar(line.scores[metric])]
    levels = [line.scores[metric].mean for line in starts]
    chart, places = row_chart(
        [replace(name, text=name.text or "all runs") for name in names_of(trained)[:BARS]],
        Axis.around(title(metric), [*values, *ends, *levels]),
        "; ".join(f"{line.setting.label}: {line.scores[metric]}" for line in (*starts, *drawn)),
    )
    for line, level in zip(starts, levels, strict=True):
        ends_of_line = [(level, chart.y.low), (level, chart.y.high)]
        chart.reference(f"{line.setting.label}: {line.scores[metric].interval}", ends_of_line)
    for line, place in zip(drawn, places, strict=True):
        _row(chart, line, metric, place)
    return Figure(title(metric), chart, _on_bars(drawn, trained, starts, metric))


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

    lines, _ = trained_and_starts(lines)
    found = _points(lines, points_of)
    if not any(found):
        return None
    across = [x for of_setting in found for _, points in of_setting for x, _ in points]
    first, last = min(0.0, *across), max(across)
    axis = Axis("epochs trained", first, last if last > first else first + 1)
    return _line_figure(lines, found, [], title(name), axis, label)


def recall_figure(lines: Sequence[Line]) -> Figure | None:
    """Test recall@k over k, a line a run; dashed those of starting points."""

    def points_of(run: SavedRun) -> Points:
        names = [name for name in run.metrics if name.startswith(RECALL)]
        by_k = sorted((float(name.removeprefix(RECALL)), run.number(name)) for name in names)
        return [(k, value) for k, value in by_k if value is not None]

    trained, starts = trained_and_starts(lines)
    found = _points(trained, points_of)
    if not any(found):
        return None
    across = sorted({x for of_setting in found for _, points in of_setting for x, _ in points})
    axis = Axis.around("k, nearest images", across, log=True)
    axis = replace(axis, ticks=tuple((k, f"{k:g}") for k in across))
    references = _points(starts, points_of)
    label = "recall@k, share of queries"
    figure = _line_figure(trained, found, references, "Test recall at k", axis, label)
    return replace(figure, caption=f"{figure.caption} {on_starts(starts)}".strip())


def _row(chart: Chart, line: Line, metric: str, place: float) -> None:
    """The runs of a setting, its interval and its mean."""
    found, score, whole = _numbers(line.setting.runs, metric), line.scores[metric], line.setting
    dots = [(value, place) for value, _ in found]
    names, ties = [run.name for _, run in found], [Tie([run]) for _, run in found]
    chart.points(Series("runs", dots, GREY, names, ties), quiet=True)
    tie = Tie(whole.runs)
    if bar := _bar(score):
        chart.interval(bar[0], bar[1], place, tie)
    title = f"{whole.label}: {score.interval}" if whole.label else score.interval
    chart.points(Series("mean", [(score.mean, place)], 1, [title], [tie]))


def _numbers(runs: Sequence[SavedRun], metric: str) -> list[tuple[float, SavedRun]]:
    """Scores of the runs that have one."""
    return [(value, run) for run in runs if (value := run.number(metric)) is not None]


def _bar(score: Score) -> tuple[float, ...]:
    """The ends of the interval; nothing where there is none, or it has no width."""
    if isnan(score.half_width) or not score.half_width:
        return ()
    return score.mean - score.half_width, score.mean + score.half_width


def _on_bars(
    drawn: Sequence[Line], trained: Sequence[Line], starts: Sequence[Line], metric: str
) -> str:
    bars = any(line.scores[metric].seeds >= ENOUGH for line in drawn)
    more = len(trained) - len(drawn)
    parts = [
        "Dots: runs; squares: means" + ("; bars: 95 % t-intervals over seeds." if bars else "."),
        on_starts(starts),
        keys_of(trained),
        f"{more} settings with lower validation scores are in the table only." if more else "",
    ]
    return " ".join(filter(None, parts))


def _points(lines: Sequence[Line], points_of: Callable[[SavedRun], Points]) -> list[Drawn]:
    """By setting and run; runs without any are left out."""
    return [
        [(run, points) for run in line.setting.runs if (points := points_of(run))] for line in lines
    ]


def _line_figure(
    lines: Sequence[Line],
    found: Sequence[Drawn],
    references: Sequence[Drawn],
    name: str,
    x: Axis,
    y: str,
) -> Figure:
    """Lines of all runs; repetitions have the same look, and what has none of its own is grey."""
    drawn = [points for of_setting in (*found, *references) for _, points in of_setting]
    values = [value for points in drawn for _, value in points]
    count = sum(map(len, found))
    text = f"{name}: {count} lines, values from {min(values):.4g} to {max(values):.4g}"
    chart = Chart(x, Axis.around(y, values), text)
    for of_setting in references:
        for run, points in of_setting:
            chart.reference(f"before training: {run.name}", points)
    chart.many_lines([_series("", run, points) for one in found[LOOKS:] for run, points in one])
    coloured = list(enumerate(zip(lines, found, strict=True)))[:LOOKS]
    for look, (line, of_setting) in reversed(coloured):  # the first on top
        for run, points in of_setting:
            series = _series(line.setting.label, run, points, look)
            chart.line(series)
            if len(points) <= FEW and count <= FEW:
                chart.points(series)
    return Figure(name, chart, _on_lines(lines, found), setting_legend(lines, found, as_lines=True))


def _series(name: str, run: SavedRun, points: Points, look: int = GREY) -> Series:
    return Series(name, points, look, ties=[Tie([run])] * len(points))


def _on_lines(lines: Sequence[Line], found: Sequence[Drawn]) -> str:
    count, grey = sum(map(len, found)), sum(map(len, found[LOOKS:]))
    others = f"; the first {LOOKS} trained settings of the table in colour, {grey} others grey"
    told = f"{count} run{'s' if count != 1 else ''}{others if grey else ''}."
    return " ".join(filter(None, [told, keys_of(lines)]))
