"""A figure of the page: a chart under its title, with a legend and a sentence; and its parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lookalike.reports.cells import Line
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.labels import short_labels, telling_keys
from lookalike.reports.page.svg import BOTTOM, TOP, Chart, Name, legend
from lookalike.reports.page.thumbnails import Picture
from lookalike.reports.page.ties import Tie

LOOKS = 6  # settings that have a look of their own in a chart; the others are grey
GREY = 7  # the look of single runs: a small disc
SPREAD = 8.0  # from here on, largest over smallest value, an axis is logarithmic

Legend = Sequence[tuple[Name, Markup]]  # names with samples, see `svg.legend`


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


def row_chart(names: Sequence[Name], x: Axis, text: str) -> tuple[Chart, list[float]]:
    """A chart with a row for each name, the first on top, and where the rows are.

    Args:
        names: of the rows.
        x: what the rows are drawn over.
        text: what is seen, in words.
    """
    places = [float(len(names) - row) for row in range(len(names))]
    chart = Chart(
        x,
        Axis("", 0.4, len(names) + 0.6, ticks=tuple((place, "") for place in places)),
        text,
        height=TOP + BOTTOM + 24 * len(names) + 10,
        left=20 + 7 * max(len(name.text) for name in names),
    )
    for place, name in zip(places, names, strict=True):
        chart.row_name(place, name)
    return chart, places


def is_wide(values: Sequence[float]) -> bool:
    """Whether values differ by factors, so that their axis should be logarithmic."""
    return min(values) > 0 and max(values) / min(values) >= SPREAD


def trained_and_starts(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """What was trained, and what that is compared with; if nothing was, all counts as trained."""
    trained = [line for line in lines if line.setting.trained]
    starts = [line for line in lines if not line.setting.trained]
    return (trained, starts) if trained else (starts, [])


def names_of(lines: Sequence[Line]) -> list[Name]:
    """Short names of settings, with their labels as hints."""
    settings = [line.setting for line in lines]
    return [
        Name(text, setting.label, Tie(setting.runs))
        for text, setting in zip(short_labels(settings), settings, strict=True)
    ]


def setting_legend(
    lines: Sequence[Line], drawn: Sequence[object], as_lines: bool = False
) -> Legend:
    """The looks of the first settings, of which something is drawn and that have a name."""
    named = [
        (name, look)
        for look, (name, found) in enumerate(zip(names_of(lines)[:LOOKS], drawn, strict=False))
        if name.text and found
    ]
    return legend(named, as_lines)


def keys_of(lines: Sequence[Line]) -> str:
    """What the values in a legend are values of."""
    keys = ", ".join(telling_keys([line.setting for line in lines]))
    return f"Settings: {keys}." if keys else ""


def on_starts(starts: Sequence[Line]) -> str:
    """What the dashed lines of a chart are, or nothing."""
    return "Dashed: before training." if starts else ""
