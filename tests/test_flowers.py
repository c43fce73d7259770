"""Flowers-102, on tiny folders in the official layout."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lookalike.data.sources import flowers as module
from lookalike.data.sources.flowers import Flowers
from lookalike.errors import InputError

LABELS = [100, 2, 2, 21, 100, 21, 3]  # of images 1..7; 100 sorts before 21 as text
SPLITS = ["test", "train", "val", "train", "train", "test", ""]


def write_mats(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / "imagelabels.mat", {"labels": np.array([LABELS], dtype=np.uint8)})
    numbers = {
        key: np.array([[i for i, s in enumerate(SPLITS, 1) if s == split]], dtype=np.uint16)
        for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
    }
    savemat(root / "setid.mat", numbers)
    for file in root.glob("*.mat"):  # they begin with the time: two that are alike are the same
        file.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + file.read_bytes()[116:])


def write_images(root: Path) -> None:
    (root / "jpg").mkdir(parents=True)
    for number in (3, 1, 7, 5, 2, 6, 4):
        (root / "jpg" / f"image_{number:05d}.jpg").write_bytes(b"%d" % number)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "flowers-102"
    write_mats(root)
    write_images(root)
    return root


def test_records_stand_in_the_order_of_the_image_numbers(root: Path) -> None:
    records = Flowers(str(root)).records()
    assert records.paths.tolist() == [str(root / "jpg" / f"image_0000{i}.jpg") for i in range(1, 8)]
    assert records.splits.tolist() == SPLITS


def test_classes_stand_in_numeric_order_under_their_number(root: Path) -> None:
    records = Flowers(str(root)).records()
    assert records.class_names == ("002", "003", "021", "100")
    assert [int(records.class_names[label]) for label in records.labels] == LABELS


def test_names_never_change_the_order_or_clash(root: Path) -> None:
    spoken = {"100": "aster", "21": "fire lily", "3": "fire lily", "77": "no image"}
    (root / "cat_to_name.json").write_text(json.dumps(spoken))
    records = Flowers(str(root)).records()
    assert records.class_names == ("002", "003 fire lily", "021 fire lily", "100 aster")
    assert records.labels.tolist() == Flowers(str(root)).records().labels.tolist()


def test_other_files_are_not_images(root: Path) -> None:
    (root / "jpg" / "._image_00001.jpg").write_bytes(b"")
    (root / "jpg" / "image_00008.jpg").write_bytes(b"")
    assert len(Flowers(str(root)).records()) == len(LABELS)


@pytest.mark.parametrize("content", ["{", '["rose"]', "3"])
def test_names_that_cannot_be_read(root: Path, content: str) -> None:
    (root / "cat_to_name.json").write_text(content)
    with pytest.raises(InputError, match=r"cat_to_name\.json"):
        Flowers(str(root)).records()


def test_missing_images_are_counted(root: Path) -> None:
    for number in (2, 5):
        (root / "jpg" / f"image_0000{number}.jpg").unlink()
    with pytest.raises(InputError, match="2 of 7 images are missing") as caught:
        Flowers(str(root)).records()
    assert "first image_00002.jpg" in str(caught.value)
    assert "lookalike prepare data=flowers" in str(caught.value)


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_root_names_the_next_command(tmp_path: Path, exists: bool) -> None:
    root = tmp_path / "nothing"
    if exists:
        root.mkdir()
    with pytest.raises(InputError, match="lookalike prepare data=flowers") as caught:
        Flowers(str(root)).records()
    assert str(root) in str(caught.value)


def test_missing_splits_name_the_next_command(root: Path) -> None:
    (root / "setid.mat").unlink()
    with pytest.raises(InputError, match=r"setid\.mat is missing"):
        Flowers(str(root)).records()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 20])
def test_a_damaged_mat_file_is_an_input_error(root: Path, content: bytes) -> None:
    (root / "imagelabels.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"Could not read .*imagelabels\.mat"):
        Flowers(str(root)).records()


def test_a_foreign_mat_file_is_an_input_error(root: Path) -> None:
    savemat(root / "imagelabels.mat", {"something": np.zeros(3)})
    with pytest.raises(InputError, match="labels"):
        Flowers(str(root)).records()


@pytest.fixture
def official(tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder served as the official site, holding a tiny data set with its checksums."""
    folder, address = site
    monkeypatch.setattr(module, "SOURCE", address)
    write_mats(folder)
    write_images(tmp_path / "packed")
    with tarfile.open(folder / "102flowers.tgz", "w:gz") as tar:
        tar.add(tmp_path / "packed" / "jpg", "jpg")
    for file in folder.iterdir():
        checksum = f"md5:{hashlib.md5(file.read_bytes()).hexdigest()}"
        monkeypatch.setitem(module.CHECKSUMS, file.name, checksum)
    return folder


def test_prepare_brings_everything(official: Path, tmp_path: Path, root: Path) -> None:
    fresh = Flowers(str(tmp_path / "new" / "flowers"))
    fresh.prepare()
    assert fresh.records().splits.tolist() == SPLITS
    assert fresh.records().labels.tolist() == Flowers(str(root)).records().labels.tolist()


def test_prepare_again_needs_no_network(official: Path, tmp_path: Path) -> None:
    flowers = Flowers(str(tmp_path / "new"))
    flowers.prepare()
    (tmp_path / "new" / "102flowers.tgz").unlink()
    for file in official.iterdir():
        file.unlink()
    flowers.prepare()


def test_prepare_keeps_images_without_the_archive(official: Path, root: Path) -> None:
    (root / "imagelabels.mat").unlink()
    (root / "jpg" / "image_00001.jpg").write_bytes(b"shrunk")
    (official / "102flowers.tgz").unlink()
    Flowers(str(root)).prepare()
    assert (root / "jpg" / "image_00001.jpg").read_bytes() == b"shrunk"


def test_prepare_reports_images_that_are_missing(official: Path, root: Path) -> None:
    for name in ("imagelabels.mat", "setid.mat", "jpg/image_00004.jpg"):
        (root / name).unlink()
    with pytest.raises(InputError, match="1 of 7 images are missing"):
        Flowers(str(root)).prepare()


@pytest.mark.slow  # importing torchvision takes seconds
def test_official_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets import Flowers102

    theirs = {name: f"md5:{md5}" for name, md5 in Flowers102._file_dict.values()}
    assert theirs == module.CHECKSUMS
    assert Flowers102._download_url_prefix == module.SOURCE


@pytest.mark.real
def test_the_real_images(real_data: Path) -> None:
    root = real_data / "flowers-102"
    flowers = Flowers(str(root))
    flowers.prepare()  # nothing is missing, so a read-only folder is enough
    records = flowers.records()
    assert len(records) == 8189
    assert records.num_classes == 102
    assert [int(name.split()[0]) for name in records.class_names] == list(range(1, 103))
    assert [len(records.ids(split)) for split in ("train", "val", "test")] == [1020, 1020, 6149]
    labels = loadmat(root / "imagelabels.mat", squeeze_me=True)["labels"]
    assert (records.labels == labels.astype(np.int64) - 1).all()
    assert records.paths[0] == str(root / "jpg" / "image_00001.jpg")


@pytest.mark.real
def test_the_real_splits_agree_with_torchvision(real_data: Path) -> None:
    from torchvision.datasets import Flowers102

    records = Flowers(str(real_data / "flowers-102")).records()
    for split in ("train", "val", "test"):
        theirs = Flowers102(real_data, split)
        expected = {
            (str(file), label)
            for file, label in zip(theirs._image_files, theirs._labels, strict=True)
        }
        ids = records.ids(split)
        ours = set(zip(records.paths[ids].tolist(), records.labels[ids].tolist(), strict=True))
        assert ours == expected
