"""What hyper-parameters do: a score against the values of each in which runs differ."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lookalike.reports.cells import shown
from lookalike.reports.comparison import value_of
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.figures import GREY, LOOKS, Figure, is_wide, row_chart
from lookalike.reports.page.labels import shown_of
from lookalike.reports.page.svg import Chart, Name, Point, Series
from lookalike.reports.page.ties import Tie
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import title

CATEGORIES = 12  # values that are no numbers, at most

Scored = tuple[float, SavedRun]
ByValue = Mapping[Any, Sequence[Scored]]  # scores by the value of a hyper-parameter


def effect_figures(runs: Sequence[SavedRun], keys: Sequence[str], metric: str) -> list[Figure]:
    """A chart a hyper-parameter; the one whose means differ most comes first.

    Args:
        runs: those that were not trained don't count.
        keys: hyper-parameters in which they differ.
        metric: of the test, such as "test/map_at_r".
    """
    found = {key: _scores(runs, key, metric) for key in keys}
    drawn = {key: by_value for key, by_value in found.items() if _can_be_drawn(by_value)}
    ordered = sorted(drawn, key=lambda key: -_effect(drawn[key]))
    return [_figure(key, drawn[key], metric, len(keys) > 1) for key in ordered]


def _scores(runs: Sequence[SavedRun], key: str, metric: str) -> ByValue:
    by_value: dict[Any, list[Scored]] = defaultdict(list)
    for run in runs:
        if run.trained and (score := run.number(metric)) is not None:
            by_value[value_of(run, key)].append((score, run))
    return by_value


def _can_be_drawn(by_value: ByValue) -> bool:
    return len(by_value) >= 2 and (_is_numeric(by_value) or len(by_value) <= CATEGORIES)


def _is_numeric(by_value: ByValue) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in by_value)


def _effect(by_value: ByValue) -> float:
    """The difference of the highest and the lowest mean."""
    means = [_mean(found) for found in by_value.values()]
    return max(means) - min(means)


def _mean(found: Sequence[Scored]) -> float:
    return float(np.mean([score for score, _ in found]))


def _figure(key: str, by_value: ByValue, metric: str, others: bool) -> Figure:
    means = (f"{shown(value)}: {_mean(found):.4f}" for value, found in by_value.items())
    text = f"{key}: {'; '.join(means)}"
    y = Axis.around(title(metric), [score for found in by_value.values() for score, _ in found])
    draw = _over_numbers if _is_numeric(by_value) else _over_names
    caption = f"Means (squares) differ by {_effect(by_value):.4f}."
    caption += " Other hyper-parameters vary too." if others else ""
    return Figure(key, draw(key, y, by_value, text), caption)


def _over_numbers(key: str, y: Axis, by_value: ByValue, text: str) -> Chart:
    values = sorted(float(value) for value in by_value)
    axis = Axis.around(key, values, is_wide(values))
    if len(values) <= LOOKS:
        axis = replace(axis, ticks=tuple((value, shown(value)) for value in values))
    chart = Chart(axis, y, text)
    for value, found in by_value.items():
        points = [(float(value), score) for score, _ in found]
        _runs_and_mean(chart, shown(value), found, points)
    means = sorted((float(value), _mean(found)) for value, found in by_value.items())
    every = Tie([run for found in by_value.values() for _, run in found], every=True)
    chart.line(Series("mean", means, 1, ties=[every]))
    return chart


def _over_names(key: str, x: Axis, by_value: ByValue, text: str) -> Chart:
    """Rows, the highest mean on top; the figure's title is the key."""
    ordered = sorted(by_value, key=lambda value: -_mean(by_value[value]))
    chart, places = row_chart([_named(key, value, by_value[value]) for value in ordered], x, text)
    for value, place in zip(ordered, places, strict=True):
        points = [(score, place) for score, _ in by_value[value]]
        _runs_and_mean(chart, shown(value), by_value[value], points)
    return chart


def _named(key: str, value: Any, found: Sequence[Scored]) -> Name:
    text = shown(value)
    return Name(shown_of(key, text), text, Tie([run for _, run in found]))


def _runs_and_mean(
    chart: Chart, name: str, found: Sequence[Scored], points: Sequence[Point]
) -> None:
    """A mean is hidden as soon as one of its runs is: it would be that of others."""
    runs = [run for _, run in found]
    titles = [f"{name}: {score:.4f}" for score, _ in found]
    chart.points(Series("runs", points, GREY, titles, [Tie([run]) for run in runs]), quiet=True)
    x, y = np.mean(points, axis=0).tolist()
    mean, tie = f"{name}: mean {_mean(found):.4f}", Tie(runs, every=True)
    chart.points(Series("mean", [(x, y)], 1, [mean], [tie]))
