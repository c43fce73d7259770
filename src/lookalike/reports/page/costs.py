"""A score against what it costs: seconds, parameters, memory, and the speed of training."""

from collections.abc import Sequence

from lookalike.reports.cells import Line
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.figures import (
    GREY,
    LOOKS,
    Figure,
    is_wide,
    keys_of,
    setting_legend,
)
from lookalike.reports.page.svg import Chart, Series
from lookalike.reports.tables import title

COSTS = {
    "training_seconds": "training time, seconds",
    "parameters": "parameters of the embedder",
    "images_per_second": "images per second in training",
    "peak_memory_mebibytes": "peak memory, MiB",
    "peak_gpu_memory_mebibytes": "peak memory of the GPU, MiB",
}

Point = tuple[float, float, str]  # cost, score, name of the run


def cost_figures(lines: Sequence[Line], metric: str) -> list[Figure]:
    """A chart a cost, where runs differ in it."""
    found = {name: [_points(line, name, metric) for line in lines] for name in COSTS}
    return [
        _figure(lines, points, metric, COSTS[name])
        for name, points in found.items()
        if len({cost for of_setting in points for cost, _, _ in of_setting}) > 1
    ]


def _points(line: Line, name: str, metric: str) -> list[Point]:
    """One a run that has both; a cost of 0 was not measured."""
    return [
        (cost, score, run.name)
        for run in line.setting.runs
        if (cost := run.number(name)) and (score := run.number(metric)) is not None
    ]


def _figure(
    lines: Sequence[Line], points: Sequence[Sequence[Point]], metric: str, label: str
) -> Figure:
    across = [cost for of_setting in points for cost, _, _ in of_setting]
    up = [score for of_setting in points for _, score, _ in of_setting]
    name = f"{title(metric)} and {label.split(',')[0]}"
    text = f"{title(metric)} of {len(up)} runs over {label}."
    chart = Chart(Axis.around(label, across, is_wide(across)), Axis.around(title(metric), up), text)
    drawn = list(enumerate(zip(lines, points, strict=True)))
    for look, (line, of_setting) in reversed(drawn):  # the first on top
        places = [(cost, score) for cost, score, _ in of_setting]
        titles = [f"{line.setting.label} ({run})" for _, _, run in of_setting]
        grey = look >= LOOKS
        series = Series(line.setting.label, places, GREY if grey else look, titles)
        chart.points(series, quiet=grey)
    others = "Other settings are grey." if len(lines) > LOOKS else ""
    caption = " ".join(filter(None, [f"{len(up)} runs.", keys_of(lines), others]))
    return Figure(name, chart, caption, setting_legend(lines, points))
