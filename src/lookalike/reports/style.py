"""How every chart looks: colours, dashes and markers, in pictures and on pages.

The palette is that of Okabe & Ito, "Color Universal Design", 2008, which the colour-blind can read;
its three lightest colours are darker here, for a contrast of 3 : 1 with white paper. Every series
has its own dashes and its own marker too, so that charts are read in black and white.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.files import writing

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# black, blue, vermilion, green, purple, orange, sky blue
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#b8548f", "#c58600", "#3a9bd0")
IN_THE_DARK = ("#e8eaed", "#4aa8e0", "#f5873d", "#2ec49a", "#dd93bf", "#e9b23c", "#93d0f5")
RIGHT, WRONG, NEITHER = COLOURS[1], COLOURS[2], "#b4b4b4"
GRID, QUIET = "#e5e5e5", "#666666"  # lines behind a picture's curves, and beside them
DPI = 120

# lengths of strokes and gaps, in pixels of a page
DASHES = ((), (7, 3), (2, 3), (9, 3, 2, 3), (12, 4), (4, 2, 1, 2, 1, 2))


@dataclass(frozen=True)
class Marker:
    """The sign of a point.

    Args:
        path: in SVG, around (0, 0), in pixels.
        plot: matplotlib's name.
    """

    path: str
    plot: str


MARKERS = (
    Marker("M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0", "o"),
    Marker("M-3 -3h6v6h-6z", "s"),
    Marker("M0 -4L3.7 2.8H-3.7z", "^"),
    Marker("M0 -4.2L3.4 0L0 4.2L-3.4 0z", "D"),
    Marker("M-3 -3L3 3M3 -3L-3 3", "x"),
    Marker("M-4 0H4M0 -4V4", "+"),
    Marker("M0 4L3.7 -2.8H-3.7z", "v"),
    Marker("M-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0", "."),
)


def colour_number(look: int) -> int:
    """The place in the palette of the series with this number."""
    return look % len(COLOURS)


def dashes(look: int) -> tuple[int, ...]:
    """Strokes and gaps of a series, pixels; nothing if it is drawn through."""
    return DASHES[look % len(DASHES)]


def marker(look: int) -> Marker:
    """The sign of a series."""
    return MARKERS[look % len(MARKERS)]


def of_line(look: int) -> dict[str, Any]:
    """matplotlib's arguments for the line of a series."""
    lengths = [length / 2 for length in dashes(look)]  # it counts in line widths
    return {
        "color": COLOURS[colour_number(look)],
        "linestyle": (0, lengths) if lengths else "solid",
    }


def figure(width: float, height: float) -> "Figure":
    """An empty picture, in inches; its parts make room for each other."""
    from matplotlib.figure import Figure  # slow to import; without pyplot it draws with Agg

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def literal(text: str) -> str:
    """A text as matplotlib draws it sign by sign; it would take what is between $ as a formula."""
    return text.replace("$", r"\$")


def save_figure(picture: "Figure", file: Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    with writing(file, "wb") as stream:
        picture.savefig(stream, format="png")


@cache
def shades() -> "Colormap":
    """From white (0) to blue (1), for shares."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", ["#ffffff", RIGHT])


def custom_properties() -> str:
    """The palette as CSS: --c0 to --c6, --right, --wrong and --neither, for light and dark."""
    light = _declared(COLOURS) + "--right:var(--c1);--wrong:var(--c2);" + f"--neither:{NEITHER}"
    dark = _declared(IN_THE_DARK)
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def _declared(colours: Sequence[str]) -> str:
    return "".join(f"--c{number}:{colour};" for number, colour in enumerate(colours))
