"""Charts as inline SVG: axes, lines, points, intervals and steps, with a text for those who listen.

Colours are classes of the page's style sheet, `.s0` to `.s6`; dashes and markers are those of
`reports.style`. Every text is escaped by `Markup.format`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lookalike.reports.page.axis import Axis
from lookalike.reports.page.ties import Tie
from lookalike.reports.style import colour_number, dashes, marker

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 44  # margins
LINE = 15  # height of a line of text
EMPTY = Markup()

Point = tuple[float, float]
# templates of SVG; what is put in is escaped
PATH = Markup('<path{} class="{}" stroke-width="{}" stroke-dasharray="{}" d="{}">{}</path>')
PLAIN = Markup('<path class="{}" d="{}"/>')
LEVEL = Markup('<path class="level" d="{}">{}</path>')
THIN = Markup('<path{} d="{}"/>')
SIGN = Markup('<path{} transform="translate({} {})" d="{}">{}</path>')
GROUP = Markup('<g class="{}">{}</g>')
TITLE = Markup("<title>{}</title>")
TEXT = Markup('<text x="{}" y="{}" class="{}">{}</text>')
ROW_NAME = Markup('<text{} x="{}" y="{}" class="end">{}{}</text>')
TURNED = Markup('<text transform="translate({} {}) rotate(-90)" class="mid name">{}</text>')
WHOLE = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
SAMPLE = Markup('<svg viewBox="0 0 28 12" aria-hidden="true">{}</svg>')


@dataclass(frozen=True)
class Name:
    """What something is called.

    Args:
        text: what is read, short.
        hint: in full, shown by the browser.
        tie: to runs, or nothing.
    """

    text: str
    hint: str = ""
    tie: Tie | Markup = EMPTY


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Args:
        name: shown by the browser.
        points: (x, y).
        look: the series' place among the colours, dashes and markers.
        titles: of each point, shown by the browser; nothing, or as many as points.
        ties: of each point to runs; nothing, or as many as points. A line has that of its first.
    """

    name: str
    points: Sequence[Point]
    look: int = 0
    titles: Sequence[str] = ()
    ties: Sequence[Tie] = ()

    @property
    def tie(self) -> Tie | Markup:
        """Of the whole."""
        return self.ties[0] if self.ties else EMPTY


class Chart:
    """Axes to draw on; a template gives the SVG.

    Args:
        x: horizontally.
        y: vertically.
        text: what the picture shows, in words.
        height: pixels.
        left: the margin for the marks of `y`, pixels.
    """

    def __init__(self, x: Axis, y: Axis, text: str, height: int = HEIGHT, left: int = LEFT) -> None:
        self.x, self.y, self.text, self.height, self.left = x, y, text, height, left
        self.parts: list[Markup] = []

    def at(self, x: float, y: float) -> Point:
        """A point in pixels, from the upper left corner."""
        across = self.left + self.x.place(x) * (WIDTH - self.left - RIGHT)
        down = self.height - BOTTOM - self.y.place(y) * (self.height - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    def line(self, series: Series, emphasis: bool = False) -> None:
        """From point to point."""
        self._outline("line", series, series.points, 2.6 if emphasis else 1.7)

    def many_lines(self, lines: Sequence[Series]) -> None:
        """Thin and grey, for what is too much to have looks of its own."""
        drawn = [THIN.format(series.tie, self._path(series.points)) for series in lines]
        self.parts.append(GROUP.format("many", EMPTY.join(drawn)))

    def points(self, series: Series, quiet: bool = False) -> None:
        """Markers; `quiet` ones are grey and shine through each other."""
        sign = marker(series.look).path
        titles = series.titles or [""] * len(series.points)
        ties = series.ties or [EMPTY] * len(series.points)
        drawn = [
            SIGN.format(tie, *self.at(*point), sign, TITLE.format(title) if title else EMPTY)
            for point, title, tie in zip(series.points, titles, ties, strict=False)
        ]
        kind = "quiet-points" if quiet else f"points s{colour_number(series.look)}"
        self.parts.append(GROUP.format(kind, EMPTY.join(drawn)))

    def steps(self, series: Series, filled: bool = False) -> None:
        """Bins: each point is a left edge and its height; the last one ends the last bin."""
        outline: list[Point] = [(series.points[0][0], self.y.low)]
        for (left, height), (right, _) in zip(series.points, series.points[1:], strict=False):
            outline += [(left, height), (right, height)]
        outline.append((series.points[-1][0], self.y.low))
        self._outline("area" if filled else "line", series, outline, 1.8)

    def interval(self, low: float, high: float, y: float, tie: Tie) -> None:
        """A horizontal bar with ends."""
        (left, down), (right, _) = self.at(low, y), self.at(high, y)
        ends = "".join(f"M{end} {down - 4}v8" for end in (left, right))
        drawn = f"M{left} {down}H{right}{ends}"
        self.parts.append(PATH.format(tie, "line s1", 1.7, "none", drawn, EMPTY))

    def reference(self, name: str, points: Sequence[Point]) -> None:
        """A thin dashed line to compare with."""
        self.parts.append(LEVEL.format(self._path(points), TITLE.format(name)))

    def row_name(self, y: float, name: Name) -> None:
        """To the left of the axis."""
        down = self.at(self.x.low, y)[1] + 4
        hint = TITLE.format(name.hint) if name.hint else EMPTY
        self.parts.append(ROW_NAME.format(name.tie, self.left - 6, down, name.text, hint))

    def __html__(self) -> Markup:
        """The whole picture, for templates."""
        parts = [self._frame(), *self._marks(), *self._labels(), *self.parts]
        return WHOLE.format(WIDTH, self.height, self.text, EMPTY.join(parts))

    def _outline(self, kind: str, series: Series, points: Sequence[Point], width: float) -> None:
        named = f"{kind} s{colour_number(series.look)}"
        title = TITLE.format(series.name)
        self.parts.append(
            PATH.format(series.tie, named, width, _strokes(series.look), self._path(points), title)
        )

    def _frame(self) -> Markup:
        """The grid behind everything, and the two axes."""
        bottom, right = self.height - BOTTOM, WIDTH - RIGHT
        upright = [f"M{self.at(x, self.y.low)[0]} {TOP}V{bottom}" for x, _ in self.x.marks()]
        level = [f"M{self.left} {self.at(self.x.low, y)[1]}H{right}" for y, _ in self.y.marks()]
        grid = PLAIN.format("grid", "".join((*upright, *level)))
        return grid + PLAIN.format("frame", f"M{self.left} {TOP}V{bottom}H{right}")

    def _marks(self) -> list[Markup]:
        below = self.height - BOTTOM + LINE
        across = [(self.at(x, self.y.low)[0], text) for x, text in self.x.marks()]
        down = [(self.at(self.x.low, y)[1], text) for y, text in self.y.marks()]
        return [TEXT.format(place, below, "mid", text) for place, text in across] + [
            TEXT.format(self.left - 6, place + 4, "end", text) for place, text in down if text
        ]

    def _labels(self) -> list[Markup]:
        middle = (self.left + WIDTH - RIGHT) / 2
        centre = (TOP + self.height - BOTTOM) / 2
        below = TEXT.format(middle, self.height - 8, "mid name", self.x.label)
        return [below, TURNED.format(13, centre, self.y.label)] if self.y.label else [below]

    def _path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join("{} {}".format(*self.at(*point)) for point in points)


def legend(names: Sequence[tuple[Name, int]], lines: bool = False) -> list[tuple[Name, Markup]]:
    """Names with samples of their looks.

    Args:
        names: (name, look).
        lines: whether a sample is a line; otherwise it is a marker.
    """
    return [(name, _line_sample(look) if lines else _marker_sample(look)) for name, look in names]


def _line_sample(look: int) -> Markup:
    kind = f"line s{colour_number(look)}"
    return SAMPLE.format(PATH.format(EMPTY, kind, 2.2, _strokes(look), "M1 6H27", EMPTY))


def _marker_sample(look: int) -> Markup:
    sign = SIGN.format(EMPTY, 14, 6, marker(look).path, EMPTY)
    return SAMPLE.format(GROUP.format(f"points s{colour_number(look)}", sign))


def _strokes(look: int) -> str:
    return " ".join(map(str, dashes(look))) or "none"
