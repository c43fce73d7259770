"""Oxford Flowers-102: 8189 photographs of 102 flowers common in the United Kingdom."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.data.sources.download import download, extract
from lookalike.errors import InputError

SOURCE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
IMAGES, LABELS, SPLITS = "102flowers.tgz", "imagelabels.mat", "setid.mat"
CHECKSUMS = {  # as in torchvision.datasets.Flowers102
    IMAGES: "md5:52808999861908f626f3c1f4e79d11fa",
    LABELS: "md5:e0620be6f572b9609742df49c70aed4d",
    SPLITS: "md5:a5357ecc9cb78c4bef273ce3793fc85c",
}
SPLIT_KEYS = {"train": "trnid", "val": "valid", "test": "tstid"}


@dataclass(frozen=True)
class Flowers:
    """Oxford Flowers-102. Nilsback & Zisserman, ICVGIP 2008.

    `root` holds jpg/image_00001.jpg ..., imagelabels.mat, setid.mat and, if class names are wanted,
    cat_to_name.json ({"21": "fire lily", ...}). The classes stand in official order and are called
    "021 fire lily", or "021" without that file. Trap: of the official splits the test split is the
    big one, 6149 images against 1020 for training and 1020 for validation, 10 a class each.
    """

    root: str

    def prepare(self) -> None:
        """Download and unpack what is missing under `root`; images that are there are kept."""
        root = Path(self.root)
        wanted = (LABELS, SPLITS) if (root / "jpg").is_dir() else (LABELS, SPLITS, IMAGES)
        for name in wanted:
            download(SOURCE + name, root / name, CHECKSUMS[name])
        if IMAGES in wanted:
            extract(root / IMAGES, root, "jpg")
        self.records()

    def records(self) -> Records:
        """All images by ascending number, in their official splits.

        Raises InputError if a file that prepare() brings is missing or cannot be read.
        """
        root = Path(self.root)
        labels = _read_numbers(root / LABELS, "labels")  # (N,) uint8, from 1
        images = [f"image_{number:05d}.jpg" for number in range(1, len(labels) + 1)]
        _check_all_there(root / "jpg", images)
        names = _class_names(labels, root / "cat_to_name.json")
        return Records.create(
            [root / "jpg" / image for image in images],
            [names[label] for label in labels.tolist()],
            classes=list(names.values()),
            splits=_splits(root / SPLITS, len(labels)),
        )


def _read_numbers(file: Path, key: str) -> NDArray[np.integer]:
    from scipy.io import loadmat  # slow to import

    if not file.exists():
        raise InputError(f"{file} is missing. Run: lookalike prepare data=flowers")
    try:
        return loadmat(file)[key].ravel()
    except Exception as error:  # scipy raises nearly anything on a damaged file
        raise InputError(
            f"Could not read {file}: {error}. Move it away and run: lookalike prepare data=flowers"
        ) from error


def _check_all_there(folder: Path, images: list[str]) -> None:
    there = {file.name for file in folder.glob("*.jpg")}
    missing = [image for image in images if image not in there]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images are missing from {folder}, first {missing[0]}."
            f" Move {folder} away, if it exists, and run: lookalike prepare data=flowers"
        )


def _class_names(labels: NDArray[np.integer], file: Path) -> dict[int, str]:
    """Name of every label that occurs, in the labels' order; the number keeps names unique."""
    spoken = _read_names(file) if file.exists() else {}
    return {
        label: f"{label:03d} {spoken.get(str(label), '')}".rstrip()
        for label in np.unique(labels).tolist()
    }


def _read_names(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Could not read {file}: {error}. "
            'Write it as {"21": "fire lily", ...}, or move it away: class names are optional.'
        ) from error


def _splits(file: Path, length: int) -> list[str]:
    """Split of every image, one of "train", "val" and "test", or "" for one that is in none."""
    splits = np.full(length, "", dtype="<U5")
    for split, key in SPLIT_KEYS.items():
        numbers = _read_numbers(file, key)  # (n,) uint16, from 1
        splits[numbers - 1] = split
    return splits.tolist()
