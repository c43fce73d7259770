"""Drawn flowers: a data set of invented species that needs no download.

Identical on every machine and for any number of workers: a picture depends on its seed, species and
number alone (`painting.draw`), its arithmetic is exact (`anatomy`), and PNG keeps every pixel. Only
numpy may change what a seed draws (NEP 19); the golden values of the test would tell.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.progress import Progress

from lookalike.data.made_once import made_once
from lookalike.data.records import Records
from lookalike.data.sources.drawing.botany import species
from lookalike.data.sources.drawing.painting import draw
from lookalike.errors import InputError

VERSION = 1  # of the drawing; raise it whenever a pixel changes, and caches are drawn anew
MOST_WORKERS = 16


@dataclass(frozen=True)
class Drawn:
    """`species` x `images_per_species` pictures of `size` x `size` pixels, cached below `root`.

    Relatives are spread over the whole range of labels, so a zero-shot split by label leaves some
    of every genus on both sides.
    """

    root: str
    species: int = 100
    images_per_species: int = 40
    size: int = 96
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Where the set lies; other settings lie elsewhere. If it exists, it is complete."""
        settings = (VERSION, self.species, self.images_per_species, self.size, self.seed)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        return Path(self.root) / f"drawn-{digest[:10]}"

    def prepare(self) -> None:
        """Draws the set unless it is there; of several processes that ask, one draws."""
        made_once(self.folder, self._draw, Path)

    def records(self) -> Records:
        """One record a picture, labelled in the order of the species."""
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
        """Draws all species into `folder`, with a worker for every processor."""
        count = min(os.cpu_count() or 1, self.species, MOST_WORKERS)
        read, write = os.pipe()
        workers = [self._worker(folder, range(k, self.species, count), write) for k in range(count)]
        os.close(write)
        with Progress(transient=True) as progress, open(read) as finished:
            task = progress.add_task("Drawing flowers", total=self.species)
            for _ in finished:  # a line a species, from any worker
                progress.advance(task)
        statuses = [worker.wait() for worker in workers]
        if any(statuses):
            raise RuntimeError(f"a worker that drew into {folder} failed; its error stands above")

    def _worker(self, folder: Path, numbers: range, output: int) -> subprocess.Popen[bytes]:
        """A fresh interpreter that draws some species.

        Not a fork, which torch's threads do not survive, nor multiprocessing's spawn, which would
        run the caller's script again where it lacks a main guard.
        """
        arguments = (str(folder), numbers, self.images_per_species, self.size, self.seed)
        code = f"from {__name__} import draw_species; draw_species(*{arguments!r})"
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # it finds this package as we did
        return subprocess.Popen([sys.executable, "-c", code], stdout=output, env=os.environ | paths)


def draw_species(folder: str, numbers: range, images: int, size: int, seed: int) -> None:
    """Draws and saves those species, and prints a line as each is done."""
    for number in numbers:
        name = species(seed, number).name
        Path(folder, name).mkdir()
        for image in range(images):
            pixels = draw(seed, number, image, size)
            Image.fromarray(pixels).save(Path(folder, picture(name, image)), compress_level=1)
        print(flush=True)


def picture(name: str, image: int) -> str:
    """A picture's place inside the set's folder."""
    return f"{name}/{image:03d}.png"
