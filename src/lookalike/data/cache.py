"""The disk cache: images decoded and shrunk once, in one memory-mapped file.

A folder holds `pixels.bin`, the bytes of all images one after the other (each height x width x 3
uint8), `shapes.npy`, their heights and widths, and `manifest.json`, the checksums of both. The
folder's name is a digest of the short side and of every file's path, size and modification time, so
a change of any of them leads to another folder.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.compatibility import torchvision_module
from lookalike.data.cached_folder import build_or_load
from lookalike.data.images import ImageFiles
from lookalike.errors import InputError
from lookalike.progress import track

log = logging.getLogger(__name__)

FORMAT = 1  # raise it whenever the same files would be cached as other bytes
SAMPLED = 64  # images from whose sizes the size of the cache is estimated
AHEAD = 64  # images decoded and not yet written


class CachedImages:
    """Images by record id, uint8 (3, h, w), pixels interleaved, from a built cache.

    Each process maps the file itself; the pages in memory are shared by all processes.

    Args:
        folder: built by `cached_images`.

    Raises:
        ValueError: the length of the pixel file does not match the shapes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shapes = np.load(folder / "shapes.npy")
        self._ends = np.cumsum(self._shapes.astype(np.int64).prod(1) * 3)
        self._check_length()
        self._pixels = self._map()

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, row: int) -> Tensor:
        height, width = self._shapes[row]
        end = self._ends[row]
        pixels = self._pixels[end - int(height) * int(width) * 3 : end]
        return torch.from_numpy(pixels.reshape(height, width, 3)).permute(2, 0, 1)

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}  # a worker maps the file itself

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(**state)

    def _check_length(self) -> None:
        expected = int(self._ends[-1])
        found = (self.folder / "pixels.bin").stat().st_size
        if found != expected:
            raise ValueError(f"{found} bytes of pixels, expected {expected}")

    def _map(self) -> NDArray[np.uint8]:
        # copy on write: torch needs writable memory, and the file must not change
        return np.memmap(self.folder / "pixels.bin", np.uint8, mode="c").view(np.ndarray)


def cached_images(
    paths: Sequence[str],
    short_side: int | None,
    folder: str | Path,
    boxes: NDArray[np.int64] | None = None,
) -> CachedImages:
    """The decoded images of some files, from a cache that is built if it is missing.

    Args:
        paths: N image files; an image's id is its position here.
        short_side: larger images are shrunk to this many pixels; None for full size.
        folder: where caches lie, each in a folder of its own.
        boxes: (N, 4), to which images are cropped; see `Records`.

    Raises:
        InputError: a file can't be read, or the disk has too little space.
    """
    place = Path(folder) / f"images-{cache_key(paths, short_side, *boxes_key(boxes))}"
    images = ImageFiles(np.array(paths), short_side, boxes)
    return build_or_load(place, lambda empty: _build(images, empty), CachedImages)


def cache_key(paths: Sequence[str], *settings: object) -> str:
    """A digest of settings and of every file's path, size and modification time, 16 hex digits.

    Args:
        paths: of the image files.
        settings: all else that the cached data depend on; their repr() counts.

    Raises:
        InputError: a file is missing.
    """
    digest = hashlib.sha256(repr((FORMAT, settings)).encode())
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputError(f"can't read the image {path} ({error})") from error
        digest.update(f"\n{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def boxes_key(boxes: NDArray[np.int64] | None) -> tuple[str, ...]:
    """What boxes (N, 4) contribute to a cache's key; nothing if there are none."""
    return () if boxes is None else (hashlib.sha256(boxes.tobytes()).hexdigest(),)


def _build(files: ImageFiles, folder: Path) -> None:
    rows = range(len(files))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        _check_room(_decoded(pool, files, _sample(rows)), len(files), folder)
        images = track(_decoded(pool, files, rows), "Decoding images", total=len(files))
        with open(folder / "pixels.bin", "wb") as stream:
            shapes = [_append(stream, image) for image in images]
    np.save(folder / "shapes.npy", np.array(shapes, np.int32))


def _decoded(
    pool: ThreadPoolExecutor, files: ImageFiles, rows: range
) -> Iterator[NDArray[np.uint8]]:
    """The images (h, w, 3) in order, decoded ahead by all threads."""
    rest = iter(rows)
    waiting = [pool.submit(_shrunk, files, row) for row in islice(rest, AHEAD)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(_shrunk, files, row) for row in islice(rest, 1)]


def _shrunk(files: ImageFiles, row: int) -> NDArray[np.uint8]:
    image, short_side = files[row], files.short_side
    if short_side is not None and min(image.shape[1:]) > short_side:
        resize = torchvision_module("transforms.v2.functional").resize
        image = resize(image, [short_side], antialias=True)
    return image.permute(1, 2, 0).contiguous().numpy()


def _append(stream: BinaryIO, image: NDArray[np.uint8]) -> tuple[int, ...]:
    stream.write(image.data)
    return image.shape[:2]


def _sample(rows: range) -> range:
    return rows[:: -(-len(rows) // SAMPLED)]


def _check_room(sample: Iterator[NDArray[np.uint8]], count: int, folder: Path) -> None:
    """Check that the disk has space for `count` images of the sample's mean size."""
    needed = float(np.mean([image.nbytes for image in sample])) * count
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the decoded images need about {needed / 1e9:.1f} GB, and {folder.parent} has "
            f"{free / 1e9:.1f} GB free. Make room, set paths.cache to a larger disk or a smaller "
            "data.transform.train.short_side, or read the files themselves: data.cache=none."
        )
    log.info("Decoding %d images into %s (%.1f GB)", count, folder.parent, needed / 1e9)
