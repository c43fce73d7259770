"""Simulated cameras: re-identification on real images, without pictures of people.

Each image is assigned to one camera, which changes it. Every camera has its own brightness, colour
cast, blur and crop, so images of one camera look similar whatever they show.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lookalike.data.cached_folder import build_or_load
from lookalike.data.decoding import read_image
from lookalike.data.records import Records
from lookalike.data.sources.source import Source
from lookalike.errors import InputError
from lookalike.progress import track

VERSION = 1  # of the simulation; raise it whenever a pixel changes, so that caches are rebuilt
WINDOW = 0.8  # share of each side of an image that a camera's crop keeps
QUALITY = 92  # of JPEG files, in 1..100


@dataclass(frozen=True)
class Camera:
    """What a camera does to every image.

    gains: factors on red, green and blue.
    blur: standard deviation of a Gaussian, as a share of the crop's short side.
    left: place of the crop, from 0 at the left edge to 1 at the right edge.
    top: place of the crop, from 0 at the upper edge to 1 at the lower edge.
    """

    gains: tuple[float, float, float]
    blur: float
    left: float
    top: float

    @classmethod
    def draw(cls, seed: int, number: int) -> "Camera":
        """Camera `number` of a seed.

        Brightness changes by a factor of at most 1.5, each colour by a further one of at most 1.22.
        """
        rng = np.random.default_rng((seed, number))
        brightness = rng.uniform(-0.4, 0.4)
        red, green, blue = np.exp(brightness + rng.uniform(-0.2, 0.2, 3)).tolist()
        blur, left, top = (rng.uniform(size=3) * (0.015, 1, 1)).tolist()
        return cls((red, green, blue), blur, left, top)

    def take(self, image: Image.Image) -> Image.Image:
        """An RGB image as this camera would take it."""
        width, height = (round(WINDOW * side) for side in image.size)
        left = round(self.left * (image.width - width))
        top = round(self.top * (image.height - height))
        crop = image.crop((left, top, left + width, top + height))
        crop = crop.filter(ImageFilter.GaussianBlur(self.blur * min(crop.size)))
        return Image.fromarray((np.asarray(crop) * self.gains).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Cameras:
    """The images of another data set, each changed by one of several simulated cameras.

    Identities are that data set's classes. The first half of them is for training, the second half
    for the test. In the test, one image of every class and camera is a query, and all others are
    the gallery, as in Market-1501.

    source: the data set with the images.
    root: where the changed images are cached, in a folder of their own.
    cameras: number of cameras.
    seed: of the cameras, and of which camera takes which image.
    """

    source: Source
    root: str
    cameras: int = 6
    seed: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the changed images; if it exists, it is complete.

        Other settings have another folder.
        """
        settings = (VERSION, self.source, self.cameras, self.seed)
        return (
            Path(self.root) / f"cameras-{hashlib.sha256(repr(settings).encode()).hexdigest()[:10]}"
        )

    def prepare(self) -> None:
        """Change all images, unless they are cached; only one of several processes does it.

        Raises:
            InputError: an image can't be read.
        """
        self.source.prepare()
        build_or_load(self.folder, self._copy, Path)

    def records(self) -> Records:
        """One record for each image of the source, with the same id.

        Raises:
            InputError: `prepare` was not called.
        """
        if not self.folder.exists():
            raise InputError(f"no images in {self.folder}; call prepare() first")
        inner = self.source.records()
        testing = inner.labels >= (inner.num_classes + 1) // 2
        is_query = self._first_of_every_class_and_camera(inner.labels)
        roles = np.where(testing, np.where(is_query, "query", "gallery"), "both")
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
            taken = cameras[taken_by[row]].take(read_image(paths[row]))
            taken.save(folder / _name(row), quality=QUALITY)

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL
            copies = pool.map(copy, range(len(paths)))
            for _ in track(copies, "Taking pictures", total=len(paths)):
                pass


def _name(row: int) -> str:
    return f"{row:06d}.jpg"
