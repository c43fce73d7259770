"""A contact sheet: rows of framed pictures with titles, drawn with Pillow.

Right and wrong differ in colour (blue and vermilion, which the colour-blind can read), in the frame
(solid and dashed) and in a sign (tick and cross), so that they are read in black and white too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import accumulate, zip_longest
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from lookalike.data.decoding import as_image, decode
from lookalike.files import writing
from lookalike.reports.style import NEITHER, RIGHT, WRONG

FRAME, GAP, FONT = 5, 10, 12  # pixels
LINE = FONT + 4  # height of a line of text, pixels
SIGN = 20  # side of the square that a tick or a cross stands in, pixels
DASH = 12  # pixels


@dataclass(frozen=True)
class Tile:
    """A place of the sheet.

    Args:
        path: of the picture.
        title: lines above it.
        right: whether what it stands for is right; null is neither.
        box: that the picture is cropped to, see `Records`.
    """

    path: str | Path
    title: Sequence[str] = ()
    right: bool | None = None
    box: Sequence[int] | None = None


def contact_sheet(rows: Sequence[Sequence[Tile | None]], side: int = 128) -> Image.Image:
    """Rows of tiles, from the left; null leaves a place free, a column of them a narrow gap.

    Args:
        rows: may differ in length.
        side: of the square that each whole picture is fitted into, pixels.
    """
    cell = side + 2 * FRAME
    widths = [(cell if any(column) else GAP) + GAP for column in zip_longest(*rows)]
    heights = [_lines(row) * LINE + cell + GAP for row in rows]
    sheet = Image.new("RGB", (sum(widths) + GAP, sum(heights) + GAP), "white")
    columns, tops = (list(accumulate(sizes, initial=GAP)) for sizes in (widths, heights))
    for row, top in zip(rows, tops, strict=False):
        picture = top + _lines(row) * LINE
        for tile, left in zip(row, columns, strict=False):
            if tile is not None:
                _write(sheet, tile.title, left, picture, cell)
                sheet.paste(_framed(tile, side), (left, picture))
    return sheet


def save_sheet(sheet: Image.Image, file: Path) -> None:
    """Write a sheet as PNG, whole or not at all."""
    with writing(file, "wb") as stream:
        sheet.save(stream, "PNG")


@cache
def title_font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: Pillow's own font has little beyond ASCII."""
    found = find_spec("matplotlib")  # not imported, which takes as long as drawing a sheet
    file = (
        Path(str(found and found.origin)).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    )
    if not file.is_file():  # packages of some systems have it elsewhere
        from matplotlib import get_data_path

        file = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), FONT)


def shortened(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, without its beginning if it is wider than so many pixels: names differ at the end,
    as in a path or in "n02102973-Irish_water_spaniel"."""
    if font.getlength(text) <= width:
        return text
    starts = range(1, len(text))
    return next((f"...{text[s:]}" for s in starts if font.getlength(f"...{text[s:]}") <= width), "")


def _lines(row: Sequence[Tile | None]) -> int:
    return max((len(tile.title) for tile in row if tile), default=0)


def _write(sheet: Image.Image, title: Sequence[str], left: int, bottom: int, width: int) -> None:
    """Lines of text that end just above the picture."""
    font = title_font()
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(title):
        top = bottom - (len(title) - number) * LINE
        pen.text((left, top), shortened(line, width, font), "black", font)


def _framed(tile: Tile, side: int) -> Image.Image:
    colour = {True: RIGHT, False: WRONG, None: NEITHER}[tile.right]
    cell = side + 2 * FRAME
    framed = Image.new("RGB", (cell, cell), colour)
    picture = as_image(decode(tile.path, box=tile.box))
    framed.paste(ImageOps.pad(picture, (side, side), color="white"), (FRAME, FRAME))
    pen = ImageDraw.Draw(framed)
    if tile.right is None:
        return framed
    if not tile.right:
        _dash(pen, cell)
    pen.rectangle((0, 0, SIGN, SIGN), "white", colour, 2)
    for width, ink in ((5, "white"), (3, colour)):
        for line in _sign(tile.right):
            pen.line(line, ink, width, joint="curve")
    return framed


def _dash(pen: ImageDraw.ImageDraw, cell: int) -> None:
    """Break the frame with white gaps."""
    for start in range(SIGN + DASH, cell - DASH // 2, 2 * DASH):
        end = min(start + DASH, cell) - 1
        for near, far in ((0, FRAME - 1), (cell - FRAME, cell - 1)):
            pen.rectangle((start, near, end, far), "white")
            pen.rectangle((near, start, far, end), "white")


def _sign(right: bool) -> list[list[tuple[int, int]]]:
    """Lines of a tick or a cross in the upper left corner."""
    if right:
        return [[(5, 10), (9, 15), (16, 5)]]
    return [[(5, 5), (15, 15)], [(5, 15), (15, 5)]]
