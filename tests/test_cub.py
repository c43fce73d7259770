"""CUB-200-2011, on tiny folders in the official layout."""

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from lookalike.data.records import Records
from lookalike.data.sources import cub as module
from lookalike.data.sources.cub import Cub
from lookalike.data.splits import assign_splits
from lookalike.errors import InputError
from lookalike.training.experiment import Experiment

CLASSES = 12
SHOTS = 4  # images of class 1, and one more or less of others
NAMES = [
    f"{label:03d}.Bird_{chr(97 + label)}/Bird_{shot:04d}_{label * 31 + shot}.jpg"
    for label in range(1, CLASSES + 1)
    for shot in range(1, SHOTS + label % 3)
]
NUMBERS = [str(number) for number in range(1, len(NAMES) + 1)]
TRAINS = [number % 2 for number in range(len(NAMES))]


def write_lists(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    columns = {
        "images.txt": NAMES,
        "image_class_labels.txt": [int(name[:3]) for name in NAMES],
        "train_test_split.txt": TRAINS,
        "bounding_boxes.txt": ["60.0 27.0 325.0 304.0"] * len(NAMES),
    }
    for file, column in columns.items():
        pairs = zip(NUMBERS, column, strict=True)
        (root / file).write_text("".join(f"{number} {value}\n" for number, value in pairs))


def write_images(root: Path) -> None:
    for name in reversed(NAMES):
        file = root / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_lists(tmp_path / "birds")
    write_images(tmp_path / "birds")
    return tmp_path / "birds"


def assert_is_all(records: Records, root: Path) -> None:
    assert records.class_names == tuple(sorted({name.split("/")[0] for name in NAMES}))
    for row, (name, trains) in enumerate(zip(NAMES, TRAINS, strict=True)):
        assert records.paths[row] == str(root / "images" / name)
        assert records.labels[row] == int(name[:3]) - 1
        assert records.splits[row] == ("train" if trains else "test")
    assert len(records) == len(NAMES)
    assert set(records.roles) == {"both"}
    assert set(records.groups) == {""}


def test_records(root: Path) -> None:
    assert_is_all(Cub(str(root)).records(), root)


def test_the_files_need_not_be_in_one_order(root: Path) -> None:
    file = root / "image_class_labels.txt"
    file.write_text("\n".join(reversed(file.read_text().splitlines())))
    assert_is_all(Cub(str(root)).records(), root)


def test_zero_shot_trains_on_the_first_half_of_the_classes(root: Path) -> None:
    found = assign_splits(Cub(str(root)).records(), "zero_shot", folds=3, fold=1)
    for name, split in zip(NAMES, found.splits, strict=True):
        number = int(name[:3])
        part = "test" if number > CLASSES // 2 else "val" if number in (2, 5) else "train"
        assert split == part


def test_official_keeps_the_test_images_and_validates_on_training_ones(root: Path) -> None:
    found = assign_splits(Cub(str(root)).records(), "official")
    for trains, split in zip(TRAINS, found.splits, strict=True):
        assert (split != "test") == trains
    assert set(found.splits) == {"train", "val", "test"}


def replace_line(file: Path, number: int, line: str | None) -> None:
    lines = file.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("file", ["images.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_a_line_that_is_missing(root: Path, file: str) -> None:
    replace_line(root / file, 7, None)
    with pytest.raises(InputError, match=r"1 are in one of them only, first 7\.") as caught:
        Cub(str(root)).records()
    assert "lookalike prepare data=cub" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("images.txt", "7", r"images\.txt says '7' in line 7, not 'image_id path'"),
        ("image_class_labels.txt", "7 99", r"jump from 12 to 99"),
        ("image_class_labels.txt", "7 x", r"class id in .*image_class_labels\.txt is not a number"),
        ("image_class_labels.txt", "7 5", r"image_class_labels\.txt says class 5 of .*/002\.Bird"),
        ("train_test_split.txt", "7 2", r"train_test_split\.txt says '2', not one of 1, 0"),
    ],
)
def test_a_line_that_is_wrong(root: Path, file: str, line: str, message: str) -> None:
    replace_line(root / file, 7, line)
    with pytest.raises(InputError, match=message) as caught:
        Cub(str(root)).records()
    assert "lookalike prepare data=cub" in str(caught.value)


@pytest.mark.parametrize("file", ["images.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_a_file_that_is_missing(root: Path, file: str) -> None:
    (root / file).unlink()
    with pytest.raises(InputError, match=rf"{root / file} is missing\. .*prepare data=cub"):
        Cub(str(root)).records()


def test_images_that_are_missing_are_counted(root: Path) -> None:
    for name in (NAMES[8], NAMES[3]):
        (root / "images" / name).unlink()
    with pytest.raises(InputError, match=rf"2 of {len(NAMES)} images are missing") as caught:
        Cub(str(root)).records()
    assert f"first {root / 'images' / NAMES[3]}." in str(caught.value)
    assert f"Move {root / 'images'} away and run: lookalike prepare" in str(caught.value)


@pytest.fixture
def official(tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official archive, small, as a local server gives it out."""
    folder, address = site
    write_lists(tmp_path / "packed")
    write_images(tmp_path / "packed")
    archive = folder / "CUB_200_2011.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "packed", "CUB_200_2011")
        tar.add(tmp_path / "packed" / "images.txt", "attributes.txt")
    monkeypatch.setattr(module, "SOURCE", address)
    monkeypatch.setattr(module, "CHECKSUM", f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}")
    return archive


def test_prepare_brings_everything(
    official: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "new" / "birds"
    Cub(str(root)).prepare()
    assert_is_all(Cub(str(root)).records(), root)
    there = {path.name for path in root.iterdir()} - {".download.lock"}
    assert there == {"CUB_200_2011.tgz", *module.WANTED}
    assert f"{len(NAMES)} images, not 11788; 12 classes, not 200" in caplog.text


def test_prepare_of_a_complete_data_set_needs_no_network(official: Path, root: Path) -> None:
    official.unlink()
    before = sorted(root.rglob("*"))
    Cub(str(root)).prepare()
    assert sorted(root.rglob("*")) == before


def test_prepare_keeps_existing_images(official: Path, root: Path) -> None:
    (root / "images.txt").unlink()
    (root / "images" / NAMES[0]).write_bytes(b"shrunk")
    Cub(str(root)).prepare()
    assert (root / "images" / NAMES[0]).read_bytes() == b"shrunk"


def test_a_download_with_another_checksum_is_refused(official: Path, tmp_path: Path) -> None:
    official.write_bytes(official.read_bytes() + b"more")
    with pytest.raises(InputError, match="is not the expected file"):
        Cub(str(tmp_path / "new")).prepare()
    assert not (tmp_path / "new" / "images").exists()


def test_by_config(
    compose: Callable[..., DictConfig], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.data.datamodule.check_heads", lambda records: None)  # no images
    config = compose("train", "data=cub", f"data.root={root}", "backbone.weights=null")
    assert Experiment(config, tmp_path).data.counts()["test_classes"] == CLASSES // 2
    config = compose("train", "data=cub", "paths.data=here")
    assert config.data.root == "here/CUB_200_2011"
