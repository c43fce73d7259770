"""Cars-196, on tiny folders in both official layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from scipy.io import savemat

from lookalike.data.sources.cars import Cars
from lookalike.data.splits import assign_splits
from lookalike.errors import InputError
from lookalike.training.experiment import Experiment

NAMES = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]
NAMES += [f"Car {chr(97 + number)}" for number in range(9)]
CLASSES = len(NAMES)
# (class from 1, split) of every image: four a class, in no order of classes
IMAGES = [
    (number * 5 % CLASSES + 1, "test" if number // CLASSES % 2 else "train")
    for number in range(4 * CLASSES)
]
TRAINING = [label for label, split in IMAGES if split == "train"]
TESTING = [label for label, split in IMAGES if split == "test"]


def struct(**columns: list[Any]) -> np.ndarray:
    """A MATLAB struct array, (1, N)."""
    fields = {"bbox_x1": [1] * len(next(iter(columns.values()))), **columns}
    rows = np.empty((1, len(fields["bbox_x1"])), dtype=[(name, object) for name in fields])
    for name, column in fields.items():
        rows[name][0] = column
    return rows


def cells(values: list[str]) -> np.ndarray:
    row = np.empty((1, len(values)), dtype=object)
    row[0] = values
    return row


def touch(folder: Path, count: int, digits: int) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{number:0{digits}d}.jpg" for number in range(1, count + 1)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    return names


def build_one_file(root: Path) -> Path:
    paths = [f"car_ims/{name}" for name in touch(root / "car_ims", len(IMAGES), 6)]
    ids = [np.uint8(label) for label, _ in IMAGES]
    tests = [np.uint8(split == "test") for _, split in IMAGES]
    annotations = struct(relative_im_path=paths, **{"class": ids, "test": tests})
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": cells(NAMES)})
    return root


def build_devkit(root: Path) -> Path:
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": cells(NAMES)})
    for file, folder, ids in (
        ("devkit/cars_train_annos.mat", "cars_train", TRAINING),
        ("cars_test_annos_withlabels.mat", "cars_test", TESTING),
    ):
        names = touch(root / folder, len(ids), 5)
        annotations = struct(**{"class": [np.uint8(label) for label in ids], "fname": names})
        savemat(root / file, {"annotations": annotations})
    return root


Build = Callable[[Path], Path]


@pytest.fixture(params=[build_one_file, build_devkit])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    build: Build = request.param
    return build(tmp_path / "cars")


def expected(root: Path) -> list[tuple[str, int, str]]:
    """(path, class from 1, split) as either layout has them."""
    if (root / "car_ims").is_dir():
        return [
            (str(root / "car_ims" / f"{number:06d}.jpg"), label, split)
            for number, (label, split) in enumerate(IMAGES, start=1)
        ]
    return [
        (str(root / f"cars_{split}" / f"{number:05d}.jpg"), label, split)
        for split, labels in (("train", TRAINING), ("test", TESTING))
        for number, label in enumerate(labels, start=1)
    ]


def test_records(root: Path) -> None:
    records = Cars(str(root)).records()
    rows = zip(records.paths, records.labels + 1, records.splits, strict=True)
    assert list(rows) == expected(root)
    assert records.class_names == tuple(f"{i:03d} {name}" for i, name in enumerate(NAMES, start=1))
    assert set(records.roles) == {"both"}
    assert set(records.groups) == {""}


def test_the_devkit_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    from torchvision.datasets import StanfordCars

    records = Cars(str(build_devkit(tmp_path / "stanford_cars"))).records()
    for split in ("train", "test"):
        theirs = StanfordCars(tmp_path, split)._samples
        ids = records.ids(split)
        assert list(zip(records.paths[ids], records.labels[ids], strict=True)) == theirs


def test_zero_shot_trains_on_the_first_half_of_the_classes(root: Path) -> None:
    found = assign_splits(Cars(str(root)).records(), "zero_shot", folds=3)
    for (_, label, _), part in zip(expected(root), found.splits, strict=True):
        trains = "val" if label in (1, 4) else "train"
        assert part == ("test" if label > CLASSES // 2 else trains)


def test_official_keeps_the_test_images(root: Path) -> None:
    found = assign_splits(Cars(str(root)).records(), "official", folds=2)
    for (_, _, split), part in zip(expected(root), found.splits, strict=True):
        assert (part == "test") == (split == "test")
    assert set(found.splits) == {"train", "val", "test"}


def test_one_image_only(tmp_path: Path) -> None:
    root = tmp_path / "cars"
    touch(root / "car_ims", 1, 6)
    one = struct(relative_im_path=["car_ims/000001.jpg"], **{"class": [1], "test": [0]})
    savemat(root / "cars_annos.mat", {"annotations": one, "class_names": cells(NAMES[:1])})
    assert Cars(str(root)).records().class_names == (f"001 {NAMES[0]}",)


def assert_says_where(error: InputError, root: Path) -> None:
    assert f"Put cars_annos.mat and the folder car_ims into {root}, or devkit/" in str(error)
    assert "cars_test_annos_withlabels.mat and the folders cars_train and cars_test" in str(error)
    assert "server of Cars-196 is gone" in str(error)


def test_an_empty_folder_says_what_belongs_where(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cars_train_annos\.mat is missing") as caught:
        Cars(str(tmp_path)).prepare()
    assert_says_where(caught.value, tmp_path)


@pytest.mark.parametrize(
    "file",
    ["devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"],
)
def test_a_file_of_the_devkit_that_is_missing(tmp_path: Path, file: str) -> None:
    root = build_devkit(tmp_path / "cars")
    (root / file).unlink()
    with pytest.raises(InputError, match=rf"{file} is missing") as caught:
        Cars(str(root)).records()
    assert_says_where(caught.value, root)


def test_a_damaged_file(root: Path) -> None:
    file = next(root.rglob("cars_*anno*.mat"))
    file.write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(InputError, match=rf"Could not read {file}") as caught:
        Cars(str(root)).records()
    assert_says_where(caught.value, root)


def test_the_test_annotations_without_labels_are_not_enough(tmp_path: Path) -> None:
    root = build_devkit(tmp_path / "cars")
    names = [file.name for file in sorted((root / "cars_test").iterdir())]
    savemat(root / "cars_test_annos_withlabels.mat", {"annotations": struct(fname=names)})
    with pytest.raises(InputError, match=r"withlabels\.mat have no class\."):
        Cars(str(root)).records()


@pytest.mark.parametrize(
    ("labels", "tests", "names", "message"),
    [
        ([1, 2, 4], [0, 1, 0], NAMES, "jump from 2 to 4"),
        ([0, 1, 2], [0, 1, 0], NAMES, "jump from 0 to 0"),
        ([1, 2, 3], [0, 1, 2], NAMES, r"cars_annos\.mat says 2, not one of 0, 1"),
        ([1, 2, 3], [0, 1, 0], NAMES[:2], "names 2 classes of 3"),
        ([], [], NAMES, "have no rows"),
    ],
)
def test_annotations_that_are_wrong(
    tmp_path: Path, labels: list[int], tests: list[int], names: list[str], message: str
) -> None:
    root = tmp_path / "cars"
    paths = [f"car_ims/{name}" for name in touch(root / "car_ims", len(labels), 6)]
    annotations = struct(relative_im_path=paths, **{"class": labels, "test": tests})
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": cells(names)})
    with pytest.raises(InputError, match=message) as caught:
        Cars(str(root)).records()
    assert_says_where(caught.value, root)


def test_images_that_are_missing_are_counted(root: Path) -> None:
    for image in sorted(root.rglob("*.jpg"))[2:4]:
        image.unlink()
    with pytest.raises(InputError, match=rf"2 of {len(IMAGES)} images are missing") as caught:
        Cars(str(root)).records()
    assert_says_where(caught.value, root)


def test_prepare_compares_with_the_published_counts(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Cars(str(root)).prepare()
    assert "48 images, not 16185; 12 classes, not 196; 24 train images, not 8144" in caplog.text


def test_by_config(
    compose: Callable[..., DictConfig], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.data.datamodule.check_heads", lambda records: None)  # no images
    config = compose("train", "data=cars", f"data.root={root}", "backbone.weights=null")
    assert Experiment(config, tmp_path).data.counts()["test_classes"] == CLASSES // 2
    config = compose("train", "data=cars", "paths.data=here")
    assert config.data.root == "here/stanford_cars"
