"""A score against what it costs: seconds, parameters, memory, and the speed of training."""

from collections.abc import Sequence
from math import isnan

from lookalike.reports.cells import Line
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.figures import (
    GREY,
    LOOKS,
    Figure,
    is_wide,
    keys_of,
    on_starts,
    setting_legend,
    trained_and_starts,
)
from lookalike.reports.page.svg import Chart, Series
from lookalike.reports.page.ties import Tie
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import title

COSTS = {
    "training_seconds": "training time, seconds",
    "parameters": "parameters of the embedder",
    "images_per_second": "images per second in training",
    "peak_memory_mebibytes": "peak memory, MiB",
    "peak_gpu_memory_mebibytes": "peak memory of the GPU, MiB",
}

Point = tuple[float, float, SavedRun]  # cost, score


def cost_figures(lines: Sequence[Line], metric: str) -> list[Figure]:
    """A chart a cost, where runs differ in it; starting points are lines across."""
    lines, starts = trained_and_starts(lines)
    starts = [line for line in starts if not isnan(line.scores[metric].mean)]
    found = {name: [_points(line, name, metric) for line in lines] for name in COSTS}
    return [
        _figure(lines, starts, points, metric, COSTS[name])
        for name, points in found.items()
        if len({cost for of_setting in points for cost, _, _ in of_setting}) > 1
    ]


def _points(line: Line, name: str, metric: str) -> list[Point]:
    """One a run that has both; a cost of 0 was not measured."""
    return [
        (cost, score, run)
        for run in line.setting.runs
        if (cost := run.number(name)) and (score := run.number(metric)) is not None
    ]


def _figure(
    lines: Sequence[Line],
    starts: Sequence[Line],
    points: Sequence[Sequence[Point]],
    metric: str,
    label: str,
) -> Figure:
    across = [cost for of_setting in points for cost, _, _ in of_setting]
    up = [score for of_setting in points for _, score, _ in of_setting]
    levels = [line.scores[metric].mean for line in starts]
    name = f"{title(metric)} and {label.split(',')[0]}"
    text = f"{title(metric)} of {len(up)} runs over {label}."
    x = Axis.around(label, across, is_wide(across))
    chart = Chart(x, Axis.around(title(metric), [*up, *levels]), text)
    for line, level in zip(starts, levels, strict=True):
        chart.reference(f"{line.setting.label}: {level:.4f}", [(x.low, level), (x.high, level)])
    drawn = list(enumerate(zip(lines, points, strict=True)))
    for look, (line, of_setting) in reversed(drawn):  # the first on top
        places = [(cost, score) for cost, score, _ in of_setting]
        titles = [f"{line.setting.label} ({run.name})" for _, _, run in of_setting]
        ties = [Tie([run]) for _, _, run in of_setting]
        grey = look >= LOOKS
        series = Series(line.setting.label, places, GREY if grey else look, titles, ties)
        chart.points(series, quiet=grey)
    others = "Other settings are grey." if len(lines) > LOOKS else ""
    caption = " ".join(
        filter(None, [f"{len(up)} runs.", keys_of(lines), on_starts(starts), others])
    )
    return Figure(name, chart, caption, setting_legend(lines, points))
