"""Image formats: every depth of pixels, damaged metadata and files, what is never opened."""

import importlib
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from PIL import Image, features

from lookalike.data import formats
from lookalike.data.decoding import as_image, decode, read_image, to_rgb
from lookalike.errors import InputError
from lookalike.reports.style import literal

AVIF = ["AVIF"] if "avif" in features.get_supported_modules() else []
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("largest", [1, 255, 65535])
def test_pixels_of_unknown_scale_are_refused(dtype: type, largest: int) -> None:
    pixels = (RAMP / 255 * largest).astype(dtype)
    with pytest.raises(InputError, match=r"of unknown scale: save it with 8 or 16 bits"):
        decode(saved(pixels, "TIFF"))
    with pytest.raises(InputError, match="of unknown scale"):
        to_rgb(Image.fromarray(pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(kind: str) -> None:
    pixels = RAMP.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(saved(pixels, kind))[0], RAMP)


def test_sixteen_bits_of_a_big_endian_tiff_and_of_a_pgm() -> None:
    big = Image.frombytes("I;16B", (16, 16), (RAMP.astype(">u2") * 257).tobytes())
    np.testing.assert_array_equal(decode(saved(big, "TIFF"))[0], RAMP)
    pgm = b"P5 16 16 65535 " + (RAMP.astype(">u2") * 257).tobytes()
    np.testing.assert_array_equal(decode(pgm)[1], RAMP)


def test_floats_of_a_pfm_are_refused() -> None:
    with pytest.raises(InputError, match="floats of unknown scale"):
        decode(b"Pf\n2 2\n-1.0\n" + np.zeros(4, "<f4").tobytes())


def exif(damage: str) -> bytes:
    whole = Image.Exif()
    whole[0x0112] = 6
    content = whole.tobytes()
    return {
        "cut": content[:-4],
        "zeros": content[:12] + bytes(len(content) - 12),
        "noise": b"Exif\0\0" + bytes(range(40)),
        "short": b"Exif\0\0MM",
        "empty": b"Exif\0\0",
        "many": content[:14] + b"\xff\xff" + content[16:],
    }[damage]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "noise", "short", "empty", "many"])
@pytest.mark.filterwarnings("ignore")  # Pillow's, about the EXIF
def test_damaged_exif_leaves_whole_pixels(kind: str, damage: str) -> None:
    """At worst they are not turned."""
    image = Image.fromarray(np.stack([RAMP[:8]] * 3, -1))
    whole = np.asarray(read_image(saved(image, kind)))
    found = decode(saved(image, kind, exif=exif(damage))).permute(1, 2, 0).numpy()
    turned = found.shape != whole.shape
    np.testing.assert_allclose(np.rot90(found) if turned else found, whole, atol=3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", *AVIF])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_once(kind: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    corner = np.full((32, 64, 3), 255, np.uint8)
    corner[:16, :32] = 0
    turned = decode(saved(corner, kind, exif=tags))
    dark = {(0, 0): "1 5", (0, 1): "2 6", (1, 1): "3 7", (1, 0): "4 8"}
    lower, right = (int(turned[0].float().mean(axis).argmin() >= n // 2)
                    for axis, n in ((1, turned.shape[1]), (0, turned.shape[2])))  # fmt: skip
    assert str(orientation) in dark[lower, right]
    assert tuple(turned.shape) == ((3, 32, 64) if orientation < 5 else (3, 64, 32))


def test_an_image_of_a_user_is_turned_by_its_exif() -> None:
    image = Image.new("RGB", (8, 4))
    image.putpixel((0, 0), (255, 0, 0))
    image.getexif()[0x0112] = 6
    assert to_rgb(image).getpixel((3, 0)) == (255, 0, 0)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) show\n%%EOF\n"


@pytest.mark.parametrize(
    "content",
    [
        POSTSCRIPT,
        saved(Image.new("RGB", (4, 4)), "PCX"),
        saved(Image.new("RGB", (4, 4)), "TGA"),
        saved(Image.new("RGB", (4, 4)), "ICO"),
        saved(Image.new("RGB", (4, 4)), "JPEG2000") if features.check("jpg_2000") else b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["eps", "pcx", "tga", "ico", "jp2", "svg"],
)
def test_only_the_formats_of_photographs_are_opened(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (decode, read_image):
        with pytest.raises(InputError, match=r"can't read the image .*a\.jpg"):
            read(tmp_path / "a.jpg")


@pytest.mark.parametrize("cut", [2, 3, 4, 5, 20, 21])
def test_a_jpeg_that_ends_in_its_segments(cut: int) -> None:
    with pytest.raises(InputError, match="can't read the image"):
        decode(saved(RAMP, "JPEG")[:cut] + b"\xff" * (cut % 2))


def test_a_damaged_avif_and_a_damaged_tiff() -> None:
    rng = np.random.default_rng(0)
    for kind in ("TIFF", *AVIF):
        whole = bytearray(saved(RAMP, kind))
        for _ in range(60):
            damaged = bytearray(whole)
            for place in rng.integers(4, min(len(whole), 400), 3):
                damaged[place] = rng.integers(256)
            with_errors_explained(bytes(damaged))


def with_errors_explained(content: bytes) -> None:
    try:
        assert decode(content).shape[0] == 3
    except InputError as error:
        assert str(error)  # noqa: PT017


def test_heic_is_read_where_a_reader_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for pillow-heif, whose files are PNG files with another beginning."""
    (tmp_path / "pillow_heif.py").write_text(STAND_IN)
    assert ".heic" not in formats.extensions()
    monkeypatch.syspath_prepend(tmp_path)
    for function in (formats.endings, formats.formats, formats.extensions):
        function.cache_clear()
    importlib.invalidate_caches()
    try:
        assert {".heic", ".heif"} <= formats.extensions()
        png = saved(np.stack([RAMP] * 3, -1), "PNG")
        np.testing.assert_array_equal(np.asarray(as_image(decode(b"heic" + png)))[..., 0], RAMP)
    finally:
        sys.modules.pop("pillow_heif", None)
        Image.OPEN.pop("HEIF", None)
        if "HEIF" in Image.ID:
            Image.ID.remove("HEIF")
        for function in (formats.endings, formats.formats, formats.extensions):
            function.cache_clear()


STAND_IN = """
from io import BytesIO
from PIL import Image

def opened(stream, name):
    return Image.open(BytesIO(stream.read()[4:]))

def register_heif_opener():
    Image.register_open("HEIF", opened, lambda prefix: prefix.startswith(b"heic"))
"""


@pytest.mark.parametrize("name", ["$", "a$b$", "$\\frac$", "\\$x$", "$$"])
def test_names_are_no_formulas_for_matplotlib(name: str) -> None:
    figure = Figure()
    text = figure.text(0, 0, literal(name))
    figure.savefig(BytesIO(), format="png")
    assert not is_math_text(text.get_text())
