"""Examples of a query as text: an item of an index, or an image that was sent, and a box.

furniture/12                     item 12 of the index furniture
image:9f86d0...                  an image that was sent before, by its SHA-256
file:0                           the first image that comes with the request
furniture/12@0.1,0.2,0.8,0.9     a part of it: left, top, right, bottom in 0..1
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from torch import Tensor

from lookalike.errors import InputError

Box = tuple[float, float, float, float]  # left, top, right, bottom as parts of the image
PATTERN = re.compile(
    r"(?:(?P<index>[\w.-]+)/(?P<id>[0-9]{1,18})|image:(?P<digest>[0-9a-f]{64})|file:(?P<file>[0-9]{1,3}))"
    r"(?:@(?P<box>[0-9.]+(?:,[0-9.]+){3}))?"
)
SMALLEST = 0.005  # side of a box, as a part of the image's


@dataclass(frozen=True)
class Item:
    """An image of an index.

    index: its name.
    id: of the item.
    box: part of it; None for all.
    """

    index: str
    id: int
    box: Box | None = None

    def __str__(self) -> str:
        return f"{self.index}/{self.id}{_suffix(self.box)}"


@dataclass(frozen=True)
class Sent:
    """An image that somebody sent.

    digest: SHA-256 of its file, in hexadecimal digits.
    box: part of it; None for all.
    """

    digest: str
    box: Box | None = None

    def __str__(self) -> str:
        return f"image:{self.digest}{_suffix(self.box)}"


Example = Item | Sent


def digest_of(file: bytes) -> str:
    """The name under which an image that was sent is known afterwards."""
    return sha256(file).hexdigest()


def parse(text: str, digests: Sequence[str] = ()) -> Example:
    """What a text refers to.

    >>> parse("furniture/12@0,0,0.5,1")
    Item(index='furniture', id=12, box=(0.0, 0.0, 0.5, 1.0))

    Args:
        text: as in the docstring of this module.
        digests: of the images that come with the request, for `file:`.

    Raises:
        InputError: it is no such text, or there is no such file or box.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise InputError(
            f"{text!r} is no example. Write an item as NAME/ID, an image sent with this request as "
            "file:0, one sent before as image:SHA256; @left,top,right,bottom in 0..1 cuts it."
        )
    box = _box(match["box"])
    if match["index"]:
        return Item(match["index"], int(match["id"]), box)
    if match["digest"]:
        return Sent(match["digest"], box)
    number = int(match["file"])
    if number >= len(digests):
        raise InputError(f"{text!r} names a file that is not there: {len(digests)} were sent")
    return Sent(digests[number], box)


def cropped(pixels: Tensor, box: Box | None) -> Tensor:
    """A part of an image (3, h, w), at least one pixel."""
    if box is None:
        return pixels
    height, width = pixels.shape[1:]
    left, top = int(box[0] * width), int(box[1] * height)
    right, bottom = max(left + 1, round(box[2] * width)), max(top + 1, round(box[3] * height))
    return pixels[:, top:bottom, left:right]


def _box(text: str | None) -> Box | None:
    if text is None:
        return None
    try:
        left, top, right, bottom = (float(edge) for edge in text.split(","))
    except ValueError:
        raise InputError(f"@{text} is no box: write four numbers in 0..1") from None
    if not (left >= 0 and right <= 1 and top >= 0 and bottom <= 1):
        raise InputError(f"@{text} reaches outside of the image: its edges lie in 0..1")
    if right - left < SMALLEST or bottom - top < SMALLEST:
        raise InputError(f"@{text} is empty: left < right and top < bottom, {SMALLEST} at least")
    return (left, top, right, bottom)


def _suffix(box: Box | None) -> str:
    return "" if box is None else "@" + ",".join(f"{edge:.4g}" for edge in box)
