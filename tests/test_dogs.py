"""Stanford Dogs, on tiny folders in the official layout."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lookalike.data.sources import dogs as module
from lookalike.data.sources.dogs import Dogs
from lookalike.errors import InputError

IMAGES = [  # as records must have them
    "n02085620-Chihuahua/n02085620_10074.jpg",
    "n02085620-Chihuahua/n02085620_5927.jpg",
    "n02086240-Shih-Tzu/n02086240_1.jpg",
    "n02116738-African_hunting_dog/n02116738_10024.jpg",
]
SPLITS = ["test", "train", "train", "test"]


def write_images(root: Path) -> None:
    for image in reversed(IMAGES):
        file = root / "Images" / image
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.encode())


def write_list(file: Path, images: list[str]) -> None:
    cells = np.empty((len(images), 1), dtype=object)
    cells[:, 0] = images
    savemat(file, {"file_list": cells, "labels": np.ones((len(images), 1))})


def write_lists(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        listed = [image for image, s in zip(IMAGES, SPLITS, strict=True) if s == split]
        write_list(root / f"{split}_list.mat", listed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "dogs")
    return tmp_path / "dogs"


def test_records_stand_in_the_order_of_their_paths(root: Path) -> None:
    records = Dogs(str(root)).records()
    assert records.paths.tolist() == [str(root / "Images" / image) for image in IMAGES]
    assert records.labels.tolist() == [0, 0, 1, 2]
    assert records.class_names == (
        "n02085620-Chihuahua",
        "n02086240-Shih-Tzu",
        "n02116738-African_hunting_dog",
    )


def test_without_lists_there_is_no_split(root: Path) -> None:
    assert Dogs(str(root)).records().splits.tolist() == [""] * 4


def test_lists_give_the_splits(root: Path) -> None:
    write_lists(root)
    assert Dogs(str(root)).records().splits.tolist() == SPLITS


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_list_alone_gives_no_split(root: Path, split: str) -> None:
    write_lists(root)
    (root / f"{split}_list.mat").unlink()
    assert Dogs(str(root)).records().splits.tolist() == [""] * 4


def test_an_image_in_no_list_has_no_split(root: Path) -> None:
    write_lists(root)
    write_list(root / "test_list.mat", IMAGES[:1])
    assert Dogs(str(root)).records().splits.tolist() == ["test", "train", "train", ""]


def test_listed_images_that_are_missing_are_counted(root: Path) -> None:
    write_lists(root)
    (root / "Images" / IMAGES[1]).unlink()
    (root / "Images" / IMAGES[3]).unlink()
    with pytest.raises(InputError, match="2 of the 4 images") as caught:
        Dogs(str(root)).records()
    assert f"first {IMAGES[1]}" in str(caught.value)
    assert "lookalike prepare data=dogs" in str(caught.value)


def test_a_damaged_list_is_an_input_error(root: Path) -> None:
    write_lists(root)
    (root / "test_list.mat").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"Could not read .*test_list\.mat"):
        Dogs(str(root)).records()


def test_other_files_are_not_images(root: Path) -> None:
    breed = root / "Images" / "n02086240-Shih-Tzu"
    for name in ("._n02086240_1.jpg", "Thumbs.db", ".DS_Store"):
        (breed / name).write_bytes(b"")
    (root / "Images" / "n02099999-No_dog_here").mkdir()
    records = Dogs(str(root)).records()
    assert len(records) == 4
    assert records.num_classes == 3


@pytest.mark.parametrize("folder", [None, ".", "Images"])
def test_a_missing_or_empty_root_names_the_next_command(tmp_path: Path, folder: str | None) -> None:
    root = tmp_path / "nothing"
    if folder:
        (root / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="lookalike prepare data=dogs") as caught:
        Dogs(str(root)).records()
    assert str(root) in str(caught.value)


@pytest.fixture
def official(tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder served as the official site, holding a tiny data set with its checksums."""
    folder, address = site
    monkeypatch.setattr(module, "SOURCE", address)
    write_images(tmp_path / "packed")
    write_lists(tmp_path / "packed")
    with tarfile.open(folder / "images.tar", "w") as tar:
        tar.add(tmp_path / "packed" / "Images", "Images")
    with tarfile.open(folder / "lists.tar", "w") as tar:
        for split in ("train", "test"):
            tar.add(tmp_path / "packed" / f"{split}_list.mat", f"{split}_list.mat")
    for file in folder.iterdir():
        checksum = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        monkeypatch.setitem(module.CHECKSUMS, file.name, checksum)
    return folder


def test_prepare_brings_everything(official: Path, tmp_path: Path) -> None:
    dogs = Dogs(str(tmp_path / "new" / "dogs"))
    dogs.prepare()
    assert dogs.records().splits.tolist() == SPLITS
    assert dogs.records().paths[0] == str(tmp_path / "new" / "dogs" / "Images" / IMAGES[0])


def test_prepare_accepts_images_without_downloading(official: Path, root: Path) -> None:
    for file in official.iterdir():
        file.unlink()
    Dogs(str(root)).prepare()
    assert [path.name for path in root.iterdir()] == ["Images"]


def test_prepare_that_stopped_between_the_archives_goes_on(official: Path, tmp_path: Path) -> None:
    dogs = Dogs(str(tmp_path / "new"))
    (official / "images.tar").rename(official / "hidden")
    with pytest.raises(InputError, match=r"images\.tar by hand"):
        dogs.prepare()
    (official / "hidden").rename(official / "images.tar")
    dogs.prepare()
    assert dogs.records().splits.tolist() == SPLITS


def test_prepare_refuses_an_empty_images_folder(tmp_path: Path) -> None:
    (tmp_path / "Images").mkdir()
    with pytest.raises(InputError, match="No images"):
        Dogs(str(tmp_path)).prepare()


@pytest.mark.real
def test_the_real_images(real_data: Path) -> None:
    dogs = Dogs(str(real_data / "stanford_dogs"))
    dogs.prepare()  # nothing is missing, so a read-only folder is enough
    records = dogs.records()
    assert len(records) == 6000
    assert records.num_classes == 120
    assert np.bincount(records.labels).tolist() == [50] * 120
    assert records.class_names[0] == "n02085620-Chihuahua"
    assert set(records.splits.tolist()) == {""}
