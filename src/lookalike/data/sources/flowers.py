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

    Classes have the official order and are named "021 fire lily", or "021" without the file of
    names. Trap: the official test split is the largest one, with 6149 images; training and
    validation have 1020 each, 10 a class.

    root: holds jpg/image_00001.jpg ..., imagelabels.mat, setid.mat and, for the names of classes,
        cat_to_name.json ({"21": "fire lily", ...}).
    """

    root: str

    def prepare(self) -> None:
        """Download and unpack what is missing under `root`; existing images are kept.

        Raises:
            InputError: a download fails, or the data set is damaged.
        """
        root = Path(self.root)
        wanted = (LABELS, SPLITS) if (root / "jpg").is_dir() else (LABELS, SPLITS, IMAGES)
        for name in wanted:
            download(SOURCE + name, root / name, CHECKSUMS[name])
        if IMAGES in wanted:
            extract(root / IMAGES, root, "jpg")
        self.records()

    def records(self) -> Records:
        """All images by ascending number, with the official split.

        Raises:
            InputError: a file or an image is missing, or a file can't be read.
        """
        root = Path(self.root)
        labels = _read_numbers(root / LABELS, "labels")  # (N,) uint8, from 1
        images = [f"image_{number:05d}.jpg" for number in range(1, len(labels) + 1)]
        _check_none_missing(root / "jpg", images)
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


def _check_none_missing(folder: Path, images: list[str]) -> None:
    found = {file.name for file in folder.glob("*.jpg")}
    missing = [image for image in images if image not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images are missing from {folder}, first {missing[0]}."
            f" Move {folder} away, if it exists, and run: lookalike prepare data=flowers"
        )


def _class_names(labels: NDArray[np.integer], file: Path) -> dict[int, str]:
    """The name of every label that occurs, by ascending label; its number makes it unique."""
    names = _read_names(file) if file.exists() else {}
    return {
        label: f"{label:03d} {names.get(str(label), '')}".rstrip()
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
    """The split of every image, "train", "val" or "test", or "" for an image in none of them."""
    splits = np.full(length, "", dtype="<U5")
    for split, key in SPLIT_KEYS.items():
        numbers = _read_numbers(file, key)  # (n,) uint16, from 1
        splits[numbers - 1] = split
    return splits.tolist()
