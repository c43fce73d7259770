"""Charts as inline SVG: axes, lines, points, intervals and steps, with a text for those who listen.

Colours are those of the page's style sheet (`.s0` to `.s6`: Okabe & Ito, lighter in the dark);
every series also has its own dashes and its own marker, to be told apart without colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 44  # margins
LINE = 15  # height of a line of text
COLOURS = 7
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2 1 2")
# paths around (0, 0): disc, square, triangle, diamond, cross, plus, triangle down, small disc
MARKERS = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0",
    "M-3 -3h6v6h-6z",
    "M0 -4L3.7 2.8H-3.7z",
    "M0 -4.2L3.4 0L0 4.2L-3.4 0z",
    "M-3 -3L3 3M3 -3L-3 3",
    "M-4 0H4M0 -4V4",
    "M0 4L3.7 -2.8H-3.7z",
    "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0",
)


@dataclass(frozen=True)
class Series:
    """Points with a name; `look` is its place among the colours, dashes and markers."""

    name: str
    points: Sequence[tuple[float, float]]
    look: int = 0
    titles: Sequence[str] = ()  # of each point, shown by the browser


@dataclass(frozen=True)
class Axis:
    """A label with its unit, limits, whether equal steps are equal factors, and named ticks."""

    label: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    @classmethod
    def around(
        cls, label: str, values: Sequence[float], log: bool = False, zero: bool = False
    ) -> "Axis":
        """Limits with some room around values; `zero` begins there."""
        finite = [value for value in values if isfinite(value) and (value > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if log and finite:
            return cls(label, low / 1.25, high * 1.25, True)
        room = 0.07 * (high - low) or 0.1 * abs(high) or 0.5
        return cls(label, 0.0 if zero else low - room, high + room)

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def marks(self) -> tuple[tuple[float, str], ...]:
        if self.ticks:
            return self.ticks
        values = _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)
        return tuple((value, _number(value)) for value in values)


class Chart:
    """Axes to draw on; `str` gives the SVG.

    Args:
        x: horizontally.
        y: vertically.
        text: what the picture shows, in words.
    """

    def __init__(self, x: Axis, y: Axis, text: str, height: int = HEIGHT, left: int = LEFT) -> None:
        self.x, self.y, self.text, self.height, self.left = x, y, text, height, left
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = self.left + self.x.place(x) * (WIDTH - self.left - RIGHT)
        down = self.height - BOTTOM - self.y.place(y) * (self.height - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    def line(self, series: Series, emphasis: bool = False) -> None:
        dashes = DASHES[series.look % len(DASHES)]
        style = f' stroke-dasharray="{dashes}"' if dashes else ""
        width = 2.6 if emphasis else 1.7
        self.parts.append(
            f'<path class="line s{series.look % COLOURS}" stroke-width="{width}"{style} '
            f'd="{self._path(series.points)}"><title>{escape(series.name)}</title></path>'
        )

    def many_lines(self, lines: Sequence[Sequence[tuple[float, float]]]) -> None:
        """Thin and grey, in one piece, for what is too much to be told apart."""
        paths = "".join(self._path(points) for points in lines)
        self.parts.append(f'<path class="many" d="{paths}"/>')

    def points(self, series: Series, quiet: bool = False) -> None:
        """Markers; `quiet` ones are grey and shine through each other."""
        marker = MARKERS[series.look % len(MARKERS)]
        drawn = []
        for number, point in enumerate(series.points):
            across, down = self.at(*point)
            title = escape(series.titles[number]) if series.titles else ""
            inside = f"<title>{title}</title>" if title else ""
            drawn.append(
                f'<path transform="translate({across} {down})" d="{marker}">{inside}</path>'
            )
        kind = "quiet-points" if quiet else f"points s{series.look % COLOURS}"
        self.parts.append(f'<g class="{kind}">{"".join(drawn)}</g>')

    def steps(self, series: Series, filled: bool = False) -> None:
        """Bins: each point is a left edge and its height; the last one ends the last bin."""
        outline: list[tuple[float, float]] = [(series.points[0][0], self.y.low)]
        for (left, height), (right, _) in zip(series.points, series.points[1:], strict=False):
            outline += [(left, height), (right, height)]
        outline.append((series.points[-1][0], self.y.low))
        dashes = DASHES[series.look % len(DASHES)]
        style = f' stroke-dasharray="{dashes}"' if dashes else ""
        kind = "area" if filled else "line"
        self.parts.append(
            f'<path class="{kind} s{series.look % COLOURS}" stroke-width="1.8"{style} '
            f'd="{self._path(outline)}"><title>{escape(series.name)}</title></path>'
        )

    def interval(self, low: float, high: float, y: float, look: int = 1) -> None:
        """A horizontal bar with ends."""
        (left, down), (right, _) = self.at(low, y), self.at(high, y)
        self.parts.append(
            f'<path class="line s{look}" stroke-width="1.7" d="M{left} {down}H{right}'
            f'M{left} {down - 4}v8M{right} {down - 4}v8"/>'
        )

    def level(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A thin straight line to compare with."""
        (left, down), (right, up) = self.at(x1, y1), self.at(x2, y2)
        self.parts.append(f'<path class="level" d="M{left} {down}L{right} {up}"/>')

    def __str__(self) -> str:
        bottom, right = self.height - BOTTOM, WIDTH - RIGHT
        grid, texts = [], []
        for value, text in self.x.marks():
            across, _ = self.at(value, self.y.low)
            grid.append(f"M{across} {TOP}V{bottom}")
            texts.append(
                f'<text x="{across}" y="{bottom + LINE}" class="mid">{escape(text)}</text>'
            )
        for value, text in self.y.marks():
            _, down = self.at(self.x.low, value)
            grid.append(f"M{self.left} {down}H{right}")
            texts.append(
                f'<text x="{self.left - 6}" y="{down + 4}" class="end">{escape(text)}</text>'
            )
        middle, centre = (self.left + right) / 2, (TOP + bottom) / 2
        texts.append(
            f'<text x="{middle}" y="{self.height - 8}" class="mid name">'
            f"{escape(self.x.label)}</text>"
        )
        if self.y.label:
            texts.append(
                f'<text transform="translate(13 {centre}) rotate(-90)" class="mid name">'
                f"{escape(self.y.label)}</text>"
            )
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(self.text)}">'
            f'<path class="grid" d="{"".join(grid)}"/>'
            f'<path class="frame" d="M{self.left} {TOP}V{bottom}H{right}"/>'
            f"{''.join(texts)}{''.join(self.parts)}</svg>"
        )

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join("{} {}".format(*self.at(*point)) for point in points)


def legend(names: Sequence[tuple[str, int]], lines: bool = False) -> str:
    """Names with their looks, as a list that wraps."""
    items = []
    for name, look in names:
        dashes = DASHES[look % len(DASHES)]
        sample = (
            f'<path class="line s{look % COLOURS}" stroke-width="2.2" stroke-dasharray="{dashes}" '
            f'd="M1 6H27"/>'
            if lines
            else f'<g class="points s{look % COLOURS}"><path transform="translate(14 6)" '
            f'd="{MARKERS[look % len(MARKERS)]}"/></g>'
        )
        items.append(
            f'<li><svg viewBox="0 0 28 12" aria-hidden="true">{sample}</svg>{escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e4 else f"{value:.6g}"


def _ticks(low: float, high: float, about: int = 7) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(n * step, 12) for n in range(ceil(low / step), floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there are few; on a short axis plain ticks."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [10.0**p * f for p in powers for f in factors if low <= 10.0**p * f <= high]
        if len(ticks) >= 3:
            return ticks
    return _ticks(low, high, 4)
