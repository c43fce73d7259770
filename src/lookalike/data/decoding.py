"""Decoding: an image file -> 8-bit RGB, upright, no larger than needed."""

from collections.abc import Sequence
from io import BytesIO
from math import inf
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lookalike.data.formats import formats
from lookalike.errors import InputError

JPEG = b"\xff\xd8"  # the first bytes of such a file
PNG = b"\x89PNG\r\n\x1a\n"
EXIF = b"Exif\0\0"
ORIENTATION = 0x0112  # EXIF tag
APP1 = 0xE1  # marker of the segment with EXIF
ENDS = (b"\xda", b"")  # of the segments before the pixels: the marker of the pixels, or nothing
WIDE = ("PNG", "PPM")  # formats whose 32-bit grey values, in Pillow, are 16-bit ones
# EXIF orientation -> whether height and width are swapped, then which axes are flipped
UPRIGHT = {
    2: (False, (-1,)),
    3: (False, (-2, -1)),
    4: (False, (-2,)),
    5: (True, ()),
    6: (True, (-1,)),
    7: (True, (-2, -1)),
    8: (True, (-2,)),
}


class UnreadableImageError(InputError):
    """A file from which no image can be read.

    why: in a few words, to stand beside its name.
    """

    def __init__(self, message: str, why: str = "damaged") -> None:
        super().__init__(message)
        self.why = why


def decode(
    file: str | Path | bytes, short_side: int | None = None, box: Sequence[int] | None = None
) -> Tensor:
    """The image in a file, uint8 (3, h, w), with the same pixels as from `read_image`.

    Args:
        file: its path, or what it holds.
        short_side: pixels that are needed. A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size
            (in the DCT domain, by libjpeg-turbo), but never smaller than this. None: full size.
        box: left, top, right, bottom, to which the image is cropped, in pixels of the full upright
            image; None or four zeros for the whole image.

    Raises:
        InputError: the file is missing, truncated or no image, or the box reaches outside.
    """
    if box is not None and any(box):
        return _cropped(decode(file), box, _name(file))
    try:
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
    except OSError as error:
        raise _unreadable(_name(file), error) from error
    pixels = _decode_jpeg(data, short_side or 0) if data.startswith(JPEG) else None
    return as_tensor(read_image(file)) if pixels is None else pixels


def check_head(file: str) -> None:
    """Look at the first bytes of a file, without decoding it.

    Raises:
        UnreadableImageError: it is missing or no image. What is damaged further on is not noticed.
    """
    try:
        with open(file, "rb") as stream:
            head = stream.read(len(PNG))
        if not head.startswith((JPEG, PNG)):
            Image.open(file, formats=formats()).close()
    except Exception as error:  # as for `read_image`
        raise _unreadable(file, error) from error


def why_unreadable(error: Exception) -> str:
    """What is wrong with an image, in a few words: to stand beside the name of its file."""
    why = error.why if isinstance(error, UnreadableImageError) else " ".join(str(error).split())
    return why or "damaged"


def read_image(file: str | Path | bytes) -> Image.Image:
    """The image in a file as 8-bit RGB, upright.

    EXIF orientation is applied, transparent pixels are blended with white, 16-bit values are
    divided by 256, and grey, palette and CMYK images are converted. Damaged EXIF counts as none.

    Args:
        file: its path, or what it holds.

    Raises:
        InputError: the file is missing, truncated, no image, or of a format that is not in
            `data.formats`; or its pixels have no known scale (floats, 32-bit integers).
    """
    try:
        given = BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(given, formats=formats()) as image:
            return to_rgb(image)
    except Exception as error:  # a damaged file makes Pillow's readers raise a dozen kinds
        raise _unreadable(_name(file), error) from error


def as_tensor(image: Image.Image) -> Tensor:
    """An 8-bit RGB image -> uint8 (3, h, w), pixels interleaved."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def as_image(pixels: Tensor) -> Image.Image:
    """uint8 (3, h, w) -> an 8-bit RGB image."""
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image -> 8-bit RGB, upright.

    Raises:
        InputError: its pixels are floats or 32-bit integers, which have no known scale.
    """
    image.load()  # first: a TIFF, an AVIF or a HEIC image turns itself upright
    orientation = _orientation(image)
    flat = _flat_rgb(image)
    return as_image(_turned(as_tensor(flat), orientation)) if orientation in UPRIGHT else flat


def _flat_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, as the file has it."""
    if image.mode == "F" or (image.mode == "I" and image.format not in WIDE):
        kind = "floats" if image.mode == "F" else "32-bit integers"
        raise InputError(f"its pixels are {kind} of unknown scale: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) // 256).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1, upright, where EXIF is missing or damaged."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # as for `read_image`; the pixels may be whole
        return 1


def _cropped(pixels: Tensor, box: Sequence[int], name: str) -> Tensor:
    left, top, right, bottom = (int(edge) for edge in box)
    height, width = pixels.shape[1:]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(
            f"the box {left}, {top}, {right}, {bottom} (left, top, right, bottom) reaches outside "
            f"of {name}, {width} x {height} pixels. Cut it to the image, or leave its cells empty."
        )
    return pixels[:, top:bottom, left:right]


def _decode_jpeg(data: bytes, short_side: int) -> Tensor | None:
    """uint8 (3, h, w), pixels interleaved; None for files that are left to Pillow."""
    try:
        header = simplejpeg.decode_jpeg_header(data)
        height, width, colours = int(header[0]), int(header[1]), header[2]
        if colours == "CMYK" or height * width > (Image.MAX_IMAGE_PIXELS or inf):
            return None
        reduction = _reduction(min(height, width), short_side)
        height, width = -(-height // reduction), -(-width // reduction)
        # the buffer that simplejpeg allocates is read-only
        buffer = np.empty(height * width * 3, np.uint8)
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, buffer=buffer
        )
    except (ValueError, OverflowError, MemoryError):
        return None
    return _upright(torch.from_numpy(pixels).permute(2, 0, 1), data)


def _reduction(available: int, needed: int) -> int:
    """8, 4, 2 or 1; libjpeg's other factors are slower than decoding at full size."""
    return next((factor for factor in (8, 4, 2) if -(-available // factor) >= needed > 0), 1)


def _upright(pixels: Tensor, data: bytes) -> Tensor:
    if not _has_exif(data):
        return pixels
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            return _turned(pixels, _orientation(image))
    except Exception:  # as for `_orientation`
        return pixels


def _turned(pixels: Tensor, orientation: int) -> Tensor:
    """Pixels (3, h, w) as an EXIF orientation says; an unknown one leaves them as they are."""
    turned, mirrored = UPRIGHT.get(orientation, (False, ()))
    pixels = pixels.transpose(-2, -1) if turned else pixels
    return pixels.flip(mirrored) if mirrored else pixels


def _has_exif(data: bytes) -> bool:
    """Whether a segment before the pixels holds EXIF; faster than searching all bytes."""
    place = len(JPEG)
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in ENDS:
        if data[place + 1] == APP1 and data[place + 4 : place + 4 + len(EXIF)] == EXIF:
            return True
        place += 2 + int.from_bytes(data[place + 2 : place + 4])  # counts its own two bytes
    return False


def _name(file: str | Path | bytes) -> str:
    return f"of {len(file)} bytes" if isinstance(file, bytes) else str(file)


def _unreadable(name: str, error: Exception) -> UnreadableImageError:
    why = why_unreadable(error)
    if isinstance(error, UnidentifiedImageError):  # Pillow's text may name a place in memory
        why = "no image, or of a format that is not read"
    return UnreadableImageError(
        f"can't read the image {name} ({why}). `lookalike prepare` with the same settings of the "
        "data lists all that can't be read; fix or remove them.",
        why,
    )
