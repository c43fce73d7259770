"""Duplicates: exact ones by content, near ones by thumbnails; what `prepare` says and writes."""

import csv
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike.data.duplicates import exact_duplicates, near_duplicates, summary
from lookalike.data.lists import excluded, write_list
from lookalike.data.records import Records
from lookalike.errors import InputError

Cli = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """3 classes x 4 images of smooth colours."""
    rng = np.random.default_rng(1)
    for row in range(12):
        file = tmp_path / "photos" / f"c{row // 4}" / f"{row % 4}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        coarse.resize((96, 80), Image.Resampling.BICUBIC).save(file)
    return tmp_path / "photos"


def records(photos: Path, **columns: Any) -> Records:
    paths = sorted(photos.glob("*/*"))
    return Records.create(paths, [path.parent.name for path in paths], **columns)


def names(found: Records, rows: list[tuple[int, int]]) -> list[tuple[str, str]]:
    return [tuple(Path(str(found.paths[row])).name for row in pair) for pair in rows]


def test_exact_duplicates_equal_a_double_loop(photos: Path) -> None:
    shutil.copy(photos / "c0" / "0.png", photos / "c0" / "x.png")
    shutil.copy(photos / "c0" / "0.png", photos / "c2" / "y.png")
    shutil.copy(photos / "c1" / "3.png", photos / "c2" / "z.png")
    (photos / "c1" / "same_size.png").write_bytes(
        bytes((photos / "c1" / "3.png").stat().st_size)
    )  # fmt: skip
    found = records(photos)
    content = [Path(path).read_bytes() for path in found.paths]
    expected = {
        b: min(a for a in range(len(found)) if content[a] == content[b])
        for a, b in combinations(range(len(found)), 2)
        if content[a] == content[b]
    }
    duplicates = exact_duplicates(found)
    assert {each.row: each.original for each in duplicates} == expected
    assert len(expected) == 3
    assert "3 of 16 images are duplicates of others: 2 in another class, 0 in another split" in (
        summary(found, duplicates)
    )
    halves = records(photos, splits=["train", "test"] * 8)
    assert "0 in another split" not in summary(halves, exact_duplicates(halves))


def test_boxes_of_one_file_are_no_duplicates(photos: Path) -> None:
    boxes = [[0, 0, 5, 5], [5, 0, 9, 5], [0, 0, 5, 5]]
    found = Records.create([photos / "c0" / "0.png"] * 3, ["a", "b", "c"], boxes=boxes)
    assert [(each.row, each.original) for each in exact_duplicates(found)] == [(2, 0)]


def test_near_duplicates_are_other_sizes_and_qualities_of_an_image(photos: Path) -> None:
    assert near_duplicates(records(photos)) == []
    original = Image.open(photos / "c0" / "1.png")
    original.save(photos / "c0" / "quality.jpg", quality=40)
    original.resize((48, 40)).save(photos / "c1" / "small.png")
    shutil.copy(photos / "c2" / "3.png", photos / "c2" / "9.png")
    found = records(photos)
    pairs = [(each.row, each.original) for each in near_duplicates(found)]
    assert names(found, pairs) == [
        ("quality.jpg", "1.png"),
        ("small.png", "1.png"),
        ("9.png", "3.png"),
    ]
    exact = near_duplicates(found)[-1]
    assert exact.difference == pytest.approx(0, abs=0.2)


def test_plain_images_of_other_colours_are_not_near(tmp_path: Path) -> None:
    for place, colour in enumerate(["white", "black", "red", "#fe0000", "blue"]):
        Image.new("RGB", (30, 30), colour).save(tmp_path / f"{place}.png")
    found = Records.create(sorted(tmp_path.glob("*.png")), ["a"] * 5)
    assert [(each.row, each.original) for each in near_duplicates(found)] == [(3, 2)]


def test_prepare_writes_a_table_with_which_training_leaves_them_out(
    cli: Cli, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("prepare", "data=folder", f"data.root={photos}")
    assert cli(*given, "hydra.run.dir=none") == 12
    assert "no duplicates" in capsys.readouterr().out
    shutil.copy(photos / "c0" / "0.png", photos / "c2" / "copy.png")
    assert cli(*given, "hydra.run.dir=copies") == 13
    assert "1 of 13 images are duplicates of others: 1 in another class" in capsys.readouterr().out
    (row,) = csv.DictReader(Path("copies/duplicates.csv").read_text().splitlines())
    assert (row["path"], row["class_name"]) == (str(photos / "c2" / "copy.png"), "c2")
    assert (row["original"], row["original_class"]) == (str(photos / "c0" / "0.png"), "c0")
    assert cli(*given, "hydra.run.dir=out", "data.exclude=copies/duplicates.csv") == 12
    Image.open(photos / "c0" / "1.png").save(photos / "c1" / "near.webp", quality=80)
    cli(*given, "hydra.run.dir=near", "near_duplicates=true")
    assert "2 of 14 images are duplicates of others: 2 in another class" in capsys.readouterr().out


def test_lists_leave_out_what_they_name(photos: Path, tmp_path: Path) -> None:
    found = records(photos)
    write_list(tmp_path / "a.csv", ("path", "why"), [(found.paths[2], "x"), ("nowhere.png", "y")])
    write_list(tmp_path / "b.csv", ("path",), [(path,) for path in found.paths[4:8]])
    assert excluded(found, None) is found
    assert len(excluded(found, str(tmp_path / "a.csv"))) == 11
    both = excluded(found, [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    assert both.class_names == ("c0", "c2")
    assert both.labels.tolist() == [0] * 3 + [1] * 4
    with pytest.raises(InputError, match="no table at"):
        excluded(found, "nowhere.csv")


@pytest.mark.real
@pytest.mark.slow
def test_few_photographs_of_flowers_are_near(real_data: Path, tmp_path: Path) -> None:
    """Copies of another size are found, and hardly anything else."""
    files = sorted((real_data / "flowers-102" / "jpg").glob("*.jpg"))[:400]
    for file in files[:50]:
        with Image.open(file) as image:
            image.resize((image.width * 2 // 3, image.height * 2 // 3)).save(
                tmp_path / file.name, quality=75
            )
    copies = sorted(tmp_path.glob("*.jpg"))
    found = near_duplicates(Records.create([*files, *copies], ["a"] * 450))
    assert {each.row for each in found if each.row >= 400} == set(range(400, 450))
    assert sum(each.row < 400 for each in found) <= 4
