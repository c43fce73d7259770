"""Pictures inside a page: data URIs, and sheets of many small ones for maps."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Literal

from PIL import Image, ImageOps

from lookalike.data.decoding import as_image, decode
from lookalike.errors import InputError
from lookalike.reports.style import NEITHER

SIDE = 96  # pixels of a picture that stands alone
SMALL, COLUMNS = 48, 32  # pixels of a picture on a sheet, and how many stand in a row
QUALITY = 78  # of JPEG

Kind = Literal["right", "wrong", ""]


@dataclass(frozen=True)
class Picture:
    """An image file shown with a caption.

    Args:
        path: what can't be read is left grey.
        caption: below it, and for those who listen.
        kind: how it is framed.
        side: of the square, pixels.
    """

    path: str
    caption: str
    kind: Kind = ""
    side: int = SIDE

    @property
    def data(self) -> str:
        """Its middle, square, as a data URI."""
        return _data(self.path, self.side)


class Sheets:
    """Sheets of small pictures, each as a background image under a class of the style sheet.

    Runs tested on the same images share one.
    """

    def __init__(self) -> None:
        self._classes: dict[tuple[str, ...], str] = {}

    def place(self, paths: Sequence[str]) -> str:
        """The class whose background shows these, from the left, COLUMNS in a row."""
        return self._classes.setdefault(tuple(paths), f"sheet{len(self._classes)}")

    def style(self) -> str:
        """CSS of all classes."""
        return "".join(
            f".{name}{{background-image:url({_sheet(paths)})}}"
            for paths, name in self._classes.items()
        )


@cache
def _data(path: str, side: int) -> str:
    return _jpeg(_fitted(path, side))


def _sheet(paths: tuple[str, ...]) -> str:
    rows = -(-len(paths) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SMALL, rows * SMALL), NEITHER)
    for place, path in enumerate(paths):
        row, column = divmod(place, COLUMNS)
        sheet.paste(_fitted(path, SMALL), (column * SMALL, row * SMALL))
    return _jpeg(sheet)


def _fitted(path: str, side: int) -> Image.Image:
    """The middle of a picture, square."""
    try:
        whole = as_image(decode(path, side))
    except InputError:
        return Image.new("RGB", (side, side), NEITHER)
    return ImageOps.fit(whole, (side, side))


def _jpeg(image: Image.Image) -> str:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(stream.getvalue()).decode()}"
