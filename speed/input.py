"""Reading images: files and caches to training batches, beside what a user would write.

    python speed/input.py --images FOLDER --rivals .rivals/bin/python

FOLDER holds any JPEG photographs, at any depth; 400 of them are upscaled to a short side of 500
pixels and encoded again (quality 90), the size of photographs on the web. One thread, no worker.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torchvision
from PIL import Image
from rival import Worker
from side_by_side import Row, Table, rows, take_turns, write
from torchvision import transforms as v1
from torchvision.transforms import v2

from lookalike.data.cache import cached_images
from lookalike.data.decoding import decode
from lookalike.data.images import ImageBatches, ImageFiles
from lookalike.data.transforms import RandomViews

COMMAND = "python speed/input.py --images FOLDER --rivals .rivals/bin/python"
COUNT, SHORT_SIDE, BATCH = 400, 500, 50
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--rivals", help="Python of the environment of rivals.txt")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        paths = photographs(given.images, folder)
        tables = [pipelines(paths, folder, given.rounds), stream(paths, folder, given.rounds)]
        if given.rivals:
            tables.append(stores(paths, folder, given.rivals, given.rounds))
        write("input", tables)
    finally:
        shutil.rmtree(folder)


def photographs(source: Path, folder: Path) -> list[str]:
    """Paths of COUNT photographs as large as those on the web."""
    found = sorted(source.rglob("*.jpg"))
    chosen = found[:: max(1, len(found) // COUNT)][:COUNT]
    paths = []
    for number, file in enumerate(chosen):
        paths.append(str(folder / f"{number:04d}.jpg"))
        enlarge(file, Path(paths[-1]))
    return paths


def enlarge(file: Path, target: Path) -> None:
    """Write an image upscaled to SHORT_SIDE."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as image:
        scale = SHORT_SIDE / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(target, quality=90)


def usual(paths: list[str]) -> Callable[[], object]:
    """PIL and torchvision's first transforms, image by image."""
    transform = v1.Compose(
        [
            v1.RandomResizedCrop(128, scale=(0.25, 1)),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )

    def one(path: str) -> torch.Tensor:
        with Image.open(path) as image:
            return transform(image.convert("RGB"))

    return batches(len(paths), lambda ids: torch.stack([one(paths[row]) for row in ids]))


def second(paths: list[str]) -> Callable[[], object]:
    """torchvision.io and its second transforms on uint8."""
    transform = v2.Compose(
        [v2.RandomResizedCrop(128, scale=(0.25, 1), antialias=True), v2.RandomHorizontalFlip()]
    )

    def one(path: str) -> torch.Tensor:
        return transform(torchvision.io.decode_jpeg(torchvision.io.read_file(path)))

    return batches(len(paths), lambda ids: torch.stack([one(paths[row]) for row in ids]))


def ours(images: object, size: int) -> Callable[[], object]:
    data = ImageBatches(images, np.zeros(len(images), np.int64), RandomViews(size))
    return batches(len(images), data.__getitem__)


def batches(count: int, read: Callable[[list[int]], object]) -> Callable[[], object]:
    def run() -> None:
        for start in range(0, count, BATCH):
            read(list(range(start, min(start + BATCH, count))))

    return run


def pipelines(paths: list[str], folder: Path, rounds: int) -> Table:
    view = RandomViews(128)
    cached = cached_images(paths, view.short_side, folder / "cache")
    contenders = {
        "PIL + torchvision v1, float": usual(paths),
        "torchvision.io + v2, uint8": second(paths),
        "lookalike, data.cache=none": ours(ImageFiles(np.array(paths), view.short_side), 128),
        "lookalike, data.cache=disk": ours(cached, 128),
        "limit: decoding alone": lambda: [decode(path, view.short_side) for path in paths],
        "limit: reading the files alone": lambda: [Path(path).read_bytes() for path in paths],
    }
    seconds = take_turns(contenders, rounds)
    speeds = {name: tuple(len(paths) / s for s in each) for name, each in seconds.items()}
    targets = {"lookalike, data.cache=none": 2.5, "lookalike, data.cache=disk": 15.0}
    with Image.open(paths[0]) as image:
        size = f"{image.width} x {image.height}"
    kilobytes = median(Path(path).stat().st_size for path in paths) / 1000
    return Table(
        title="Training views of 128 px from photographs, one process, one thread",
        command=COMMAND,
        unit="images/s",
        reference="PIL + torchvision v1, float",
        rows=rows(speeds, "PIL + torchvision v1, float", targets, lower_is_better=False),
        notes=[
            f"{len(paths)} JPEG files, the first of {size} px, {kilobytes:.0f} kB in the median; "
            "random crops of at least a quarter of the area, flips, batches of "
            f"{BATCH}. Files are decoded at half size where that leaves {view.short_side} px, "
            f"the cache holds {view.short_side} px (short side)."
        ],
        packages=("pillow", "torch", "torchvision", "simplejpeg"),
    )


def stream(paths: list[str], folder: Path, rounds: int) -> Table:
    """1000 images at 224 px from a warm cache."""
    thousand = (paths * -(-1000 // len(paths)))[:1000]
    cached = cached_images(thousand, RandomViews(224).short_side, folder / "cache")
    name = "lookalike, data.cache=disk"
    seconds = take_turns({name: ours(cached, 224)}, rounds)
    fraction = 0.25 / median(seconds[name])
    return Table(
        title="1000 training views of 224 px from a warm cache, one process, one thread",
        command=COMMAND,
        unit="s",
        reference="0.25 s",
        rows=[Row(name, seconds[name], fraction, 1.0)],
    )


def stores(paths: list[str], folder: Path, rivals_python: str, rounds: int) -> Table:
    """Decoded images read from our cache and from other libraries' stores."""
    cached = cached_images(paths, RandomViews(128).short_side, folder / "cache")
    order = np.random.default_rng(0).permutation(len(paths)).tolist()
    script = str(Path(__file__).with_name("cache_worker.py"))
    workers = {
        name: Worker(rivals_python, script, name, str(cached.folder), str(folder))
        for name in ("litdata", "datasets")
    }
    ours = "lookalike, data.cache=disk"
    seconds = take_turns({**workers, ours: lambda: [cached[row].clone() for row in order]}, rounds)
    for worker in workers.values():
        worker.close()
    speeds = {name: tuple(len(paths) / s for s in each) for name, each in seconds.items()}
    return Table(
        title="Decoded images from their store, in random order, one process, one thread",
        command=COMMAND,
        unit="images/s",
        reference="litdata",
        rows=rows(speeds, "litdata", {ours: 1.0}, lower_is_better=False),
    )


if __name__ == "__main__":
    main()
