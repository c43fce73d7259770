"""Damaged images and tables: an image or a line of explanation, never a hang or a traceback."""

import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from PIL import Image, features

from lookalike.data.checking import problems_of
from lookalike.data.decoding import decode, read_image
from lookalike.data.images import ImageFiles
from lookalike.data.sources.table import Table
from lookalike.errors import InputError

SECONDS = 20  # for one file; the longest took under 1
FEW, MANY = 330, 5000
TABLES_FEW, TABLES_MANY = 100, 500


def seeds() -> dict[str, bytes]:
    """A small file of each of eleven formats, some with EXIF."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    photo = coarse.resize((40, 30), Image.Resampling.BICUBIC)
    grey16 = Image.fromarray(rng.integers(0, 65536, (9, 9), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (photo, "JPEG", {"exif": exif}),
        "progressive": (photo, "JPEG", {"progressive": True, "exif": exif}),
        "png": (photo, "PNG", {"exif": exif}),
        "png16": (grey16, "PNG", {}),
        "webp": (photo, "WEBP", {"exif": exif}),
        "bmp": (photo, "BMP", {}),
        "gif": (photo.convert("P"), "GIF", {}),
        "tiff": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "tiff16": (grey16, "TIFF", {}),
        "ppm": (photo, "PPM", {}),
        "avif": (photo, "AVIF", {"exif": exif})
        if "avif" in features.get_supported_modules()
        else (photo, "PNG", {}),
    }
    content = {}
    for name, (image, kind, options) in ways.items():
        stream = BytesIO()
        image.save(stream, kind, **options)
        content[name] = stream.getvalue()
    return content


SEEDS = seeds()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """With some bytes changed, cut off, zeroed, moved, or put in."""
    data = bytearray(content)
    start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    match rng.integers(7):
        case 0 | 1:  # most of what decides lies in the first bytes
            for place in rng.integers(0, min(len(data), 200), rng.integers(1, 6)):
                data[place] = rng.integers(256)
        case 2:
            for place in rng.integers(0, len(data), rng.integers(1, 40)):
                data[place] ^= 1 << int(rng.integers(8))
        case 3:
            del data[end:]
        case 4:
            data[start:end] = bytes(end - start)
        case 5:
            data[start:end] = rng.bytes(int(rng.integers(0, 60)))
        case 6:
            del data[start:end]
    return bytes(data)


def files(count: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(7)
    names = list(SEEDS)
    for number in range(count):
        name = names[number % len(names)]
        yield name, damaged(SEEDS[name], rng)


def pixels_or_explanation(content: bytes) -> str:
    """What is wrong with a file; "" if it has pixels, which are the same on both ways to them."""
    try:
        pixels = decode(content)
    except InputError as error:
        with pytest.raises(InputError):
            read_image(content)
        return str(error)
    assert pixels.dtype.itemsize == 1
    assert pixels.shape[0] == 3
    assert min(pixels.shape) > 0
    return ""


def check_images(count: int) -> None:
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata
        for name, content in files(count):
            started = perf_counter()
            outcomes.append(pixels_or_explanation(content))
            assert perf_counter() - started < SECONDS, name
    explained = sum(bool(outcome) for outcome in outcomes)
    assert 0.2 * count < explained < 0.95 * count  # the damage is neither harmless nor total
    assert all("can't read the image" in outcome for outcome in outcomes if outcome)


def test_eleven_formats_are_fuzzed() -> None:
    assert len(SEEDS) == 11
    assert all(not pixels_or_explanation(content) for content in SEEDS.values())


def test_damaged_images() -> None:
    check_images(FEW)


@pytest.mark.slow
def test_many_damaged_images() -> None:
    check_images(MANY)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_a_folder_are_all_named(tmp_path: Path) -> None:
    paths, bad = [], []
    for number, (name, content) in enumerate(files(110)):
        paths.append(str(tmp_path / f"{number}.{name}"))
        Path(paths[-1]).write_bytes(content)
        bad += [number] if pixels_or_explanation(content) else []
    found = problems_of(ImageFiles(np.array(paths)))
    assert sorted(found) == bad
    assert all("\n" not in problem for problem in found.values())


ROWS = [
    (f"{number}.png", f"c{number % 3}", "train" if number % 2 else "test") for number in range(9)
]
TABLE = "path,label,split\n" + "".join(f'{path},"{label}",{split}\n' for path, label, split in ROWS)


def check_tables(count: int, folder: Path) -> None:
    """A damaged table is refused, or each of its images has a label that its row says."""
    for path, _, _ in ROWS:
        Image.new("RGB", (4, 4)).save(folder / path)
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(count):
        (folder / "t.csv").write_bytes(damaged_table(rng))
        try:
            records = Table(str(folder / "t.csv")).records()
        except InputError as error:
            refused += 1
            assert str(error)  # noqa: PT017
            continue
        lines = (folder / "t.csv").read_text(encoding="utf-8-sig").splitlines()
        assert len(records) == sum(bool(line) for line in lines) - 1  # no row is swallowed
        for row, path in enumerate(records.paths):
            name = records.class_names[records.labels[row]]
            assert any(Path(path).name in line and name in line for line in lines)
    assert 0.2 * count < refused < 0.95 * count


def damaged_table(rng: np.random.Generator) -> bytes:
    signs = [b'"', b",", b"\n", b"\r", b"\0", b" ", b"\xff", b"'", b"\t", b";", b"", b"nan", b"c0"]
    data = TABLE.encode()
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data)))
        cut = int(rng.integers(0, 3))
        data = data[:place] + signs[rng.integers(len(signs))] + data[place + cut :]
    return data


def test_damaged_tables(tmp_path: Path) -> None:
    check_tables(TABLES_FEW, tmp_path)


@pytest.mark.slow
def test_many_damaged_tables(tmp_path: Path) -> None:
    check_tables(TABLES_MANY, tmp_path)
