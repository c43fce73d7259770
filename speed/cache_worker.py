"""Decoded images in the stores of other libraries, in an environment of their own.

`python cache_worker.py STORE CACHE FOLDER` copies a cache of lookalike's into a store below FOLDER,
then answers every line of input by reading all images once, in random order, as uint8 tensors.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def images_of(cache: Path) -> list[np.ndarray]:
    shapes = np.load(cache / "shapes.npy")
    pixels = np.fromfile(cache / "pixels.bin", np.uint8)
    ends = np.cumsum(shapes.astype(np.int64).prod(1) * 3)
    parts = np.split(pixels, ends[:-1])
    return [part.reshape(h, w, 3) for part, (h, w) in zip(parts, shapes, strict=True)]


def in_litdata(cache: Path, folder: Path) -> Callable[[int], torch.Tensor]:
    from litdata import StreamingDataset, optimize

    optimize(
        torch.from_numpy,
        inputs=images_of(cache),
        output_dir=str(folder / "litdata"),
        chunk_bytes="64MB",
        num_workers=1,
    )
    return StreamingDataset(str(folder / "litdata")).__getitem__


def in_datasets(cache: Path, folder: Path) -> Callable[[int], torch.Tensor]:
    from datasets import Dataset, load_from_disk

    images = images_of(cache)
    columns = {
        "pixels": [image.tobytes() for image in images],
        "shape": [list(image.shape) for image in images],
    }
    Dataset.from_dict(columns).save_to_disk(str(folder / "datasets"))
    stored = load_from_disk(str(folder / "datasets"))

    def read(row: int) -> torch.Tensor:
        found = stored[row]
        return torch.frombuffer(bytearray(found["pixels"]), dtype=torch.uint8).view(found["shape"])

    return read


STORES = {"litdata": in_litdata, "datasets": in_datasets}


def main() -> None:
    name, cache, folder = sys.argv[1:]
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print as they like
    read = STORES[name](Path(cache), Path(folder))
    count = len(np.load(Path(cache) / "shapes.npy"))
    order = np.random.default_rng(0).permutation(count).tolist()
    for _ in sys.stdin:
        images = [read(row) for row in order]
        print(json.dumps({"images": len(images)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
