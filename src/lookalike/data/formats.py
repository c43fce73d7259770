"""Image formats: the files that are opened, by the ends of their names and by Pillow's names.

Pillow knows many more, and some of them start other programs: an EPS file runs Ghostscript. So a
file is never opened as anything but one of these, whatever its name says.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from PIL import features

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
AVIF, HEIF = (".avif",), (".heic", ".heif")
PLUGINS = {".avif": "pillow-avif-plugin", ".heic": "pillow-heif", ".heif": "pillow-heif"}


@cache
def endings() -> dict[str, tuple[str, ...]]:
    """Pillow's name of each format that this installation reads -> the ends of file names.

    AVIF needs a Pillow that was built with it, or the package pillow-avif-plugin; HEIC needs
    pillow-heif.
    """
    known = dict(ENDINGS)
    if "avif" in features.get_supported_modules() or _plugin("pillow_avif"):
        known["AVIF"] = AVIF
    if _plugin("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
        known["HEIF"] = HEIF
    return known


@cache
def formats() -> list[str]:
    """Pillow's names, for `Image.open(file, formats=formats())`."""
    return list(endings())


@cache
def extensions() -> frozenset[str]:
    """The ends of the names of image files, in lower case, such as ".jpg"."""
    return frozenset(end for ends in endings().values() for end in ends)


def _plugin(name: str) -> bool:
    """Whether a plugin of Pillow is installed; importing it makes its format known."""
    if find_spec(name) is None:
        return False
    import_module(name)
    return True
