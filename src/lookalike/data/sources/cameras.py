"""Real images as if several cameras had taken them: re-identification without pictures of people.

Each image is assigned to one camera and copied as that camera sees it. A camera has a brightness, a
colour cast, a blur and a window that are its own, so that images look alike for the wrong reason.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.progress import track

from lookalike.data.decoding import read_image
from lookalike.data.made_once import made_once
from lookalike.data.records import Records
from lookalike.data.sources.source import Source
from lookalike.errors import InputError

VERSION = 1  # of what cameras do; raise it whenever a pixel changes, and caches are made anew
WINDOW = 0.8  # of each side is seen by a camera
QUALITY = 92  # of JPEG


@dataclass(frozen=True)
class Camera:
    """gains: factors on red, green and blue; blur: its radius as a share of the short side; left,
    top: where its window lies, as a share of the room that it leaves, in [0, 1]."""

    gains: tuple[float, float, float]
    blur: float
    left: float
    top: float

    @classmethod
    def draw(cls, seed: int, number: int) -> "Camera":
        """Camera `number` of this seed: up to 1.5 times as bright or dark, colours up to 1.22."""
        rng = np.random.default_rng((seed, number))
        brightness = rng.uniform(-0.4, 0.4)
        red, green, blue = np.exp(brightness + rng.uniform(-0.2, 0.2, 3)).tolist()
        blur, left, top = (rng.uniform(size=3) * (0.015, 1, 1)).tolist()
        return cls((red, green, blue), blur, left, top)

    def take(self, image: Image.Image) -> Image.Image:
        """The RGB image as this camera sees it."""
        width, height = (round(WINDOW * side) for side in image.size)
        left = round(self.left * (image.width - width))
        top = round(self.top * (image.height - height))
        seen = image.crop((left, top, left + width, top + height))
        seen = seen.filter(ImageFilter.GaussianBlur(self.blur * min(seen.size)))
        return Image.fromarray((np.asarray(seen) * self.gains).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Cameras:
    """The images of another source, each as one of several cameras sees it, cached below `root`.

    Identities are the source's classes. The first half of them trains, the second half tests: of
    every test class one image a camera asks and all others are the gallery, as in Market-1501.

    Args:
        source: of the images.
        root: where copies are kept, in a folder of their own.
        cameras: how many.
        seed: of what they do to images, and of who takes which.
    """

    source: Source
    root: str
    cameras: int = 6
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Where the copies lie; other settings lie elsewhere. If it exists, it is complete."""
        settings = (VERSION, self.source, self.cameras, self.seed)
        return (
            Path(self.root) / f"cameras-{hashlib.sha256(repr(settings).encode()).hexdigest()[:10]}"
        )

    def prepare(self) -> None:
        """Copies the images unless they are there; of several processes that ask, one copies."""
        self.source.prepare()
        made_once(self.folder, self._copy, Path)

    def records(self) -> Records:
        """One record an image of the source, under the same id."""
        if not self.folder.exists():
            raise InputError(f"no images in {self.folder}; call prepare() first")
        inner = self.source.records()
        testing = inner.labels >= (inner.num_classes + 1) // 2
        asking = self._first_of_every_class_and_camera(inner.labels)
        roles = np.where(testing, np.where(asking, "query", "gallery"), "both")
        return Records.create(
            [self.folder / _name(row) for row in range(len(inner))],
            [inner.class_names[label] for label in inner.labels],
            classes=inner.class_names,
            splits=np.where(testing, "test", "train").tolist(),
            roles=roles.tolist(),
            groups=[f"c{number + 1}" for number in self._camera_of(len(inner))],
        )

    def _camera_of(self, images: int) -> NDArray[np.int64]:
        return np.random.default_rng(self.seed).integers(0, self.cameras, images)

    def _first_of_every_class_and_camera(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        pairs = labels * self.cameras + self._camera_of(len(labels))
        first = np.zeros(len(labels), dtype=bool)
        first[np.unique(pairs, return_index=True)[1]] = True
        return first

    def _copy(self, folder: Path) -> None:
        paths = self.source.records().paths
        cameras = [Camera.draw(self.seed, number) for number in range(self.cameras)]
        taken_by = self._camera_of(len(paths))

        def copy(row: int) -> None:
            seen = cameras[taken_by[row]].take(read_image(paths[row]))
            seen.save(folder / _name(row), quality=QUALITY)

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the interpreter's lock
            copies = pool.map(copy, range(len(paths)))
            for _ in track(copies, "Taking pictures", total=len(paths), transient=True):
                pass


def _name(row: int) -> str:
    return f"{row:06d}.jpg"
