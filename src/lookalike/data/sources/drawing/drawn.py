"""Drawn flowers: a data set of invented species that needs no download.

It is identical on every machine and for any number of workers. A picture depends only on its seed,
species and number (`painting.draw`), its arithmetic is exact (`anatomy`), and PNG is lossless. Only
a new version of numpy may change what a seed draws (NEP 19); a test with golden values detects it.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lookalike.data.cached_folder import build_or_load
from lookalike.data.records import Records
from lookalike.data.sources.drawing.botany import species
from lookalike.data.sources.drawing.painting import draw
from lookalike.errors import InputError
from lookalike.progress import progress_bar

VERSION = 1  # of the drawing; raise it whenever a pixel changes, so that caches are redrawn
MOST_WORKERS = 16


@dataclass(frozen=True)
class Drawn:
    """Drawn pictures of invented flowers.

    Related species are spread over the whole range of labels, so that a zero-shot split by label
    has some of every genus in both parts.

    root: where pictures are cached, in a folder of their own.
    species: number of classes.
    images_per_species: number of pictures of each.
    size: side of the square pictures, pixels.
    seed: of everything.
    """

    root: str
    species: int = 100
    images_per_species: int = 40
    size: int = 96
    seed: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the pictures; if it exists, it is complete. Other settings have another."""
        settings = (VERSION, self.species, self.images_per_species, self.size, self.seed)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        return Path(self.root) / f"drawn-{digest[:10]}"

    def prepare(self) -> None:
        """Draw all pictures, unless they are cached; only one of several processes draws."""
        build_or_load(self.folder, self._draw, Path)

    def records(self) -> Records:
        """One record for each picture; labels have the order of the species.

        Raises:
            InputError: `prepare` was not called.
        """
        if not self.folder.exists():
            raise InputError(f"no drawn flowers in {self.folder}; call prepare() first")
        names = [species(self.seed, number).name for number in range(self.species)]
        images = range(self.images_per_species)
        return Records.create(
            [self.folder / picture(name, image) for name in names for image in images],
            [name for name in names for _ in images],
            classes=names,
        )

    def _draw(self, folder: Path) -> None:
        """Draw all species into `folder`, with a worker for every core."""
        count = min(os.cpu_count() or 1, self.species, MOST_WORKERS)
        read, write = os.pipe()
        workers = [self._worker(folder, range(k, self.species, count), write) for k in range(count)]
        os.close(write)
        with progress_bar() as progress, open(read) as finished:
            task = progress.add_task("Drawing flowers", total=self.species)
            for _ in finished:  # one line for each species, from any worker
                progress.advance(task)
        statuses = [worker.wait() for worker in workers]
        if any(statuses):
            raise RuntimeError(f"a worker that drew into {folder} failed; see its error above")

    def _worker(self, folder: Path, numbers: range, output: int) -> subprocess.Popen[bytes]:
        """A new interpreter that draws some species.

        A fork would not have torch's threads. multiprocessing's spawn would run the caller's script
        again if it lacks a main guard.
        """
        arguments = (str(folder), numbers, self.images_per_species, self.size, self.seed)
        code = f"from {__name__} import draw_species; draw_species(*{arguments!r})"
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # so that it finds this package
        return subprocess.Popen([sys.executable, "-c", code], stdout=output, env=os.environ | paths)


def draw_species(folder: str, numbers: range, images: int, size: int, seed: int) -> None:
    """Draw and save some species, and print an empty line when each is finished.

    Args:
        folder: of the pictures; each species gets a folder in it.
        numbers: of the species.
        images: pictures of each.
        size: side of the square pictures, pixels.
        seed: of everything.
    """
    for number in numbers:
        name = species(seed, number).name
        Path(folder, name).mkdir()
        for image in range(images):
            pixels = draw(seed, number, image, size)
            Image.fromarray(pixels).save(Path(folder, picture(name, image)), compress_level=1)
        print(flush=True)


def picture(name: str, image: int) -> str:
    """The path of a picture relative to the folder of the data set."""
    return f"{name}/{image:03d}.png"
