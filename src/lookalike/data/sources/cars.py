"""Cars-196: 16 185 photographs of 196 models of cars."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.data.sources.listing import check_images, class_ids, compare_with_published, meanings
from lookalike.errors import InputError

ONE_FILE = "cars_annos.mat"
CLASSES = "devkit/cars_meta.mat"
DEVKIT = {  # split -> annotations, folder
    "train": ("devkit/cars_train_annos.mat", "cars_train"),
    "test": ("cars_test_annos_withlabels.mat", "cars_test"),
}
SPLIT_CODES = {0: "train", 1: "test"}
PUBLISHED = {"images": 16185, "classes": 196, "train images": 8144, "test images": 8041}


@dataclass(frozen=True)
class Cars:
    """Stanford Cars. Krause et al., Workshop on 3D Representation and Recognition, ICCV 2013.

    A class is named by its number and name, "001 AM General Hummer SUV 2000". Zero-shot: the first
    98 classes are for training, the other 98 for the test. The data set's own split has every class
    in both parts. Nothing is downloaded, since its server is gone.

    root: holds either the older layout, cars_annos.mat and car_ims/000001.jpg ..., or that of
        torchvision.datasets.StanfordCars: devkit/cars_meta.mat, devkit/cars_train_annos.mat,
        cars_test_annos_withlabels.mat, cars_train/ and cars_test/. If both exist, the first is
        used.
    """

    root: str

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        compare_with_published(self.records(), "Cars-196", PUBLISHED)

    def records(self) -> Records:
        """All images in the order of the annotations, with the data set's own split.

        Raises:
            InputError: a file or an image is missing, or a file is damaged.
        """
        root = Path(self.root)
        remedy = _remedy(root)
        in_one_file = (root / ONE_FILE).exists()
        read = _read_one_file if in_one_file else _read_devkit
        paths, ids, splits = read(root, remedy)
        images = [root / path for path in paths]
        check_images(images, remedy)
        file = root / (ONE_FILE if in_one_file else CLASSES)
        names = _read(file, "class_names", remedy)
        labels = class_ids(ids, root, remedy)
        if max(labels) > len(names):
            raise InputError(f"{file} names {len(names)} classes of {max(labels)}. {remedy}")
        return Records.create(
            images, [f"{label:03d} {names[label - 1]}" for label in labels], splits=splits
        )


Rows = tuple[Sequence[str], Sequence[int], Sequence[str]]  # path below the root, class id, split


def _read_one_file(root: Path, remedy: str) -> Rows:
    listed = _read(root / ONE_FILE, "annotations", remedy, "relative_im_path", "class", "test")
    splits = meanings(listed["test"].tolist(), SPLIT_CODES, root / ONE_FILE, remedy)
    return listed["relative_im_path"].tolist(), listed["class"].tolist(), splits


def _read_devkit(root: Path, remedy: str) -> Rows:
    rows = []
    for split, (file, folder) in DEVKIT.items():
        listed = _read(root / file, "annotations", remedy, "fname", "class")
        rows += [(f"{folder}/{row['fname']}", row["class"], split) for row in listed]
    paths, ids, splits = zip(*rows, strict=True)
    return paths, ids, splits


def _read(file: Path, key: str, remedy: str, *fields: str) -> NDArray:
    """A variable of a .mat file, (N,), a structured array with these fields."""
    from scipy.io import loadmat  # slow to import

    if not file.exists():
        raise InputError(f"{file} is missing. {remedy}")
    try:
        found = np.atleast_1d(loadmat(file, squeeze_me=True)[key])
    except Exception as error:  # scipy raises nearly anything on a damaged file
        raise InputError(f"Could not read {file}: {error}. {remedy}") from error
    lacking = set(fields) - set(found.dtype.names or ())
    if lacking or not len(found):
        lacks = ", ".join(sorted(lacking)) or "rows"
        raise InputError(f"{key} in {file} have no {lacks}. {remedy}")
    return found


def _remedy(root: Path) -> str:
    return (
        "The server of Cars-196 is gone; copies are named in "
        f"https://github.com/pytorch/vision/issues/7545. Put {ONE_FILE} and the folder car_ims "
        f"into {root}, or {CLASSES}, {DEVKIT['train'][0]}, {DEVKIT['test'][0]} and the folders "
        "cars_train and cars_test; or set data.root to the folder that has them"
    )
