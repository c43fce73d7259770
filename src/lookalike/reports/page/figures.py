"""A figure of the page: a chart under its title, with a legend and a sentence; and its parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lookalike.reports.cells import Line
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.svg import BOTTOM, TOP, Chart, legend
from lookalike.reports.page.thumbnails import Picture

LOOKS = 6  # settings that have a look of their own in a chart; the others are grey
GREY = 7  # the look of single runs: a small disc
SPREAD = 8.0  # from here on, largest over smallest value, an axis is logarithmic
LABEL = 28  # characters beside a row of a chart

Legend = Sequence[tuple[str, Markup]]  # names with samples, see `svg.legend`


@dataclass(frozen=True)
class Figure:
    """What a template needs to show one.

    Args:
        name: its title.
        chart: a chart, or finished SVG.
        caption: what is seen.
        legend: names of looks.
        pictures: below the caption.
        switch: the text of a checkbox above the caption; page.js knows what it does.
    """

    name: str
    chart: Chart | Markup
    caption: str
    legend: Legend = ()
    pictures: Sequence[Picture] = ()
    switch: str = ""


def row_chart(labels: Sequence[str], x: Axis, text: str) -> tuple[Chart, list[float]]:
    """A chart with a row for each label, the first on top, and where the rows are.

    Args:
        labels: of the rows.
        x: what the rows are drawn over.
        text: what is seen, in words.
    """
    labels = [_end(label) for label in labels]
    places = [float(len(labels) - row) for row in range(len(labels))]
    chart = Chart(
        x,
        Axis("", 0.4, len(labels) + 0.6, ticks=tuple(zip(places, labels, strict=True))),
        text,
        height=TOP + BOTTOM + 24 * len(labels) + 10,
        left=20 + 7 * max(map(len, labels)),
    )
    return chart, places


def is_wide(values: Sequence[float]) -> bool:
    """Whether values differ by factors, so that their axis should be logarithmic."""
    return min(values) > 0 and max(values) / min(values) >= SPREAD


def setting_legend(
    lines: Sequence[Line], drawn: Sequence[object], as_lines: bool = False
) -> Legend:
    """The looks of the first settings, of which something is drawn and that have a name."""
    named = [
        (line.setting.short, look)
        for look, (line, found) in enumerate(zip(lines[:LOOKS], drawn, strict=False))
        if line.setting.short and found
    ]
    return legend(named, as_lines)


def keys_of(lines: Sequence[Line]) -> str:
    """What the values in a legend are values of."""
    keys = ", ".join(lines[0].setting.values)
    return f"Settings: {keys}." if keys else ""


def _end(text: str) -> str:
    """Names differ at the end."""
    return text if len(text) <= LABEL else f"…{text[1 - LABEL :]}"
