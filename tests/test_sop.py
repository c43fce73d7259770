"""Stanford Online Products, on tiny folders in the official layout."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from lookalike.data.records import Records
from lookalike.data.sources import sop as module
from lookalike.data.sources.sop import SUPER_CLASSES, Sop
from lookalike.data.splits import assign_splits
from lookalike.errors import InputError
from lookalike.training.experiment import Experiment

HEADER = "image_id class_id super_class_id path"
TRAINING, TESTING = 17, 12  # products: the half of all is no place to cut


def rows(first: int, products: int) -> list[tuple[int, int, str]]:
    """(product, super-class, path) of every image, 2 or 3 a product."""
    return [
        (product, kind, f"{SUPER_CLASSES[kind]}_final/11{product:04d}_{view}.JPG")
        for product in range(first, first + products)
        for kind in [(product - first) * 12 // products]
        for view in range(2 + product % 2)
    ]


LISTED = {"train": rows(1, TRAINING), "test": rows(1 + TRAINING, TESTING)}
ALL = [(split, *row) for split, listed in LISTED.items() for row in listed]


def build(root: Path) -> Path:
    root.mkdir(parents=True)
    number = 0
    for split, listed in LISTED.items():
        lines = [HEADER]
        for product, kind, path in listed:
            number += 1
            lines.append(f"{number} {product} {kind + 1} {path}")
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_bytes(path.encode())
        (root / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path / "products")


def assert_is_all(records: Records, root: Path) -> None:
    assert len(records) == len(ALL)
    assert records.num_classes == TRAINING + TESTING
    for row, (split, product, kind, path) in enumerate(ALL):
        assert records.paths[row] == str(root / path)
        assert records.labels[row] == product - 1
        assert records.class_names[product - 1] == f"{product:05d} {SUPER_CLASSES[kind]}"
        assert records.splits[row] == split
    assert set(records.roles) == {"both"}
    assert set(records.groups) == {""}


def test_records(root: Path) -> None:
    assert_is_all(Sop(str(root)).records(), root)


@pytest.mark.parametrize("protocol", ["zero_shot", "official", "query_gallery"])
def test_every_protocol_tests_on_the_official_test_products(root: Path, protocol: str) -> None:
    found = assign_splits(Sop(str(root)).records(), protocol, folds=4, fold=2)
    for (split, product, _, _), part in zip(ALL, found.splits, strict=True):
        validates = split == "train" and product in (3, 7, 11, 15)
        assert part == ("val" if validates else split)


def replace_line(file: Path, number: int, line: str) -> None:
    lines = file.read_text().splitlines()
    lines[number - 1] = line
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, "", r"Ebay_test\.txt has no line 'image_id class_id super_class_id path'"),
        (5, "9 20 3", r"Ebay_test\.txt says '9 20 3' in line 5"),
        (5, "9 77 1 bicycle_final/110018_0.JPG", r"class ids in .* jump from 29 to 77"),
        (5, "9 a 1 bicycle_final/110018_0.JPG", r"class id in .* is not a number"),
        (5, "9 20 1 bicycle_final/gone.JPG", r"1 of 73 images are missing, first .*gone\.JPG"),
    ],
)
def test_a_line_that_is_wrong(root: Path, number: int, line: str, message: str) -> None:
    replace_line(root / "Ebay_test.txt", number, line)
    with pytest.raises(InputError, match=message) as caught:
        Sop(str(root)).records()
    assert "lookalike prepare data=sop" in str(caught.value)


def test_lines_that_are_missing_are_told_by_their_number(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = root / "Ebay_train.txt"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    left = len(LISTED["train"]) - 1
    Sop(str(root)).prepare()
    assert f"{left} train images, not 59551; 17 train classes, not 11318" in caplog.text


@pytest.mark.parametrize("file", ["Ebay_train.txt", "Ebay_test.txt"])
def test_a_file_that_is_missing(root: Path, file: str) -> None:
    (root / file).unlink()
    with pytest.raises(InputError, match=rf"{file} is missing\. .*lookalike prepare data=sop"):
        Sop(str(root)).records()


@pytest.fixture
def official(tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official archive, small, as a local server gives it out."""
    folder, address = site
    packed = build(tmp_path / "packed")
    archive = folder / "Stanford_Online_Products.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as archived:
        for file in sorted(packed.rglob("*")):
            archived.write(file, Path("Stanford_Online_Products", file.relative_to(packed)))
        archived.writestr("Stanford_Online_Products/Ebay_info.txt", HEADER)
    monkeypatch.setattr(module, "SOURCE", address)
    monkeypatch.setattr(module, "CHECKSUM", f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}")
    return archive


def test_prepare_brings_everything(official: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "products"
    Sop(str(root)).prepare()
    assert_is_all(Sop(str(root)).records(), root)
    there = {path.name for path in root.iterdir()} - {".download.lock"}
    assert there == {"Stanford_Online_Products.zip", *module.WANTED}
    assert len(module.WANTED) == 14


def test_prepare_of_a_complete_data_set_needs_no_network(official: Path, root: Path) -> None:
    official.unlink()
    before = sorted(root.rglob("*"))
    Sop(str(root)).prepare()
    assert sorted(root.rglob("*")) == before


def test_prepare_brings_a_folder_that_was_moved_away(official: Path, root: Path) -> None:
    (root / "lamp_final").rename(root / "damaged")
    Sop(str(root)).prepare()
    assert_is_all(Sop(str(root)).records(), root)


def test_a_server_that_is_gone_names_the_copies(official: Path, tmp_path: Path) -> None:
    official.unlink()
    with pytest.raises(InputError, match=r"404.*\n.*by hand and put it at") as caught:
        Sop(str(tmp_path / "new")).prepare()
    assert str(caught.value).endswith(f"Its authors link to other copies: {module.COPIES}")


def test_an_archive_put_there_by_hand_is_enough(official: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    official.rename(root / official.name)
    Sop(str(root)).prepare()
    assert_is_all(Sop(str(root)).records(), root)


def test_by_config(
    compose: Callable[..., DictConfig], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.data.datamodule.check_heads", lambda records: None)  # no images
    config = compose("train", "data=sop", f"data.root={root}", "backbone.weights=null")
    assert Experiment(config, tmp_path).data.counts()["test_classes"] == TESTING
    config = compose("train", "data=sop", "paths.data=here")
    assert config.data.root == "here/Stanford_Online_Products"
