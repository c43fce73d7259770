"""Records from folders and tables, and the table that is written."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from lookalike.data.cache import cached_images
from lookalike.data.checking import readable
from lookalike.data.images import ImageFiles
from lookalike.data.records import Records
from lookalike.data.sources.folder import Folder
from lookalike.data.sources.table import Table
from lookalike.errors import InputError


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(file)
    return file


def test_labels_with_gaps_and_beyond_float32_become_0_to_c() -> None:
    names = ["16777217", "16777216", "5", "16777217"]
    records = Records.create(["a", "b", "c", "d"], names)
    assert records.class_names == ("5", "16777216", "16777217")
    assert records.labels.tolist() == [2, 1, 0, 2]
    assert records.labels.dtype == np.int64


def test_given_class_order_is_kept() -> None:
    assert Records.create(["a", "b"], ["x", "y"], classes=["y", "x"]).labels.tolist() == [1, 0]


@pytest.mark.parametrize(("column", "value"), [("splits", "dev"), ("roles", "probe")])
def test_unknown_values_name_the_valid_ones(column: str, value: str) -> None:
    with pytest.raises(InputError, match=f"unknown .* '{value}'; a .* is one of '"):
        Records.create(["a"], ["x"], **{column: [value]})


def test_no_records_is_an_error() -> None:
    with pytest.raises(InputError, match="no images"):
        Records.create([], [])


def test_written_table_is_portable(tmp_path: Path) -> None:
    records = Records.create([tmp_path / "x" / "1.png", "other/2.png"], ["x", "y"])
    records.write(tmp_path / "split.csv", relative_to=tmp_path)
    rows = list(csv.DictReader((tmp_path / "split.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["x/1.png", "other/2.png"]
    assert rows[1]["class_name"] == "y"
    assert rows[1]["label"] == "1"


def test_folder_of_class_folders(class_folders: Path) -> None:
    records = Folder(str(class_folders)).records()
    assert len(records) == 96
    assert records.num_classes == 16
    assert set(records.splits) == {""}


def test_folder_with_splits_above_nested_files_and_hidden_ones(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "deep" / "1.JPG")
    picture(tmp_path / "val" / "cat" / "2.png")
    picture(tmp_path / "test" / "dog" / "3.webp")
    picture(tmp_path / "test" / "dog" / ".thumb.png")
    (tmp_path / "test" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    records = Folder(str(tmp_path)).records()
    assert records.class_names == ("cat", "dog")
    assert sorted(zip(records.splits, records.labels, strict=True)) == [
        ("test", 1),
        ("train", 0),
        ("val", 0),
    ]


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder at .*nowhere\. Set data\.root"):
        Folder(str(tmp_path / "nowhere")).records()
    with pytest.raises(InputError, match="no images in class folders under"):
        Folder(str(tmp_path)).records()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_table(tmp_path: Path, kind: str) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png")
    columns = {
        "path": ["0.png", "1.png", "2.png"],
        "label": ["007", "30", "30"],
        "split": ["train", "test", "test"],
        "role": ["both", "query", "gallery"],
        "group": ["", "cam1", "cam2"],
        "price": [1, 2, 3],
    }
    file = tmp_path / f"table.{kind}"
    if kind == "csv":
        lines = [
            ",".join(columns),
            *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
        ]
        file.write_text("\n".join(lines))
    else:
        parquet.write_table(pa.table(columns), file)
    records = Table(str(file)).records()
    assert records.class_names == ("007", "30")  # leading zeros are part of a name
    assert records.roles.tolist() == ["both", "query", "gallery"]
    assert records.groups.tolist() == ["", "cam1", "cam2"]
    assert Path(records.paths[0]).is_file()


def test_table_with_numeric_labels_in_parquet(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / f"{number}.png")
    parquet.write_table(
        pa.table({"path": ["0.png", "1.png"], "label": [900, 20]}), tmp_path / "t.parquet"
    )
    assert Table(str(tmp_path / "t.parquet")).records().labels.tolist() == [1, 0]


def test_table_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Set data\.source\.file"):
        Table(str(tmp_path / "no.csv")).records()
    file = tmp_path / "t.csv"
    file.write_text("file,label\nx.png,1\n")
    with pytest.raises(InputError, match="has no column 'path', only file, label"):
        Table(str(file)).records()
    file.write_text("path,label\nx.png,1\n")
    with pytest.raises(InputError, match=r"1 of the 1 images .* are missing"):
        Table(str(file)).records()
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="can't read the table"):
        Table(str(tmp_path / "broken.parquet")).records()


def test_a_choice_of_classes_is_a_data_set_of_its_own() -> None:
    records = Records.create(
        ["a", "b", "c", "d"], ["x", "z", "y", "z"],
        splits=["train", "val", "test", "train"], boxes=[[0, 0, n, n] for n in range(1, 5)],
    )  # fmt: skip
    chosen = records.of_classes(["z", "x"])
    assert chosen.class_names == ("x", "z")
    assert chosen.paths.tolist() == ["a", "b", "d"]
    assert chosen.labels.tolist() == [0, 1, 1]
    assert chosen.splits.tolist() == ["train", "val", "train"]
    assert chosen.boxes[:, 2].tolist() == [1, 2, 4]
    assert chosen.labels_as(["z", "other"]).tolist() == [-1, 0, 0]
    with pytest.raises(InputError, match=r"no class 'Sofaa' among 2\. Did you mean sofa\?"):
        Records.create(["a", "b"], ["sofa", "bed"]).of_classes(["sofa", "Sofaa"])


def test_boxes_of_a_table_are_honoured_wherever_images_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(
        "path,label,left,top,right,bottom\na.png,x,4.6,2,19.2,30\na.png,x,,,,\n"
    )
    records = Table(str(tmp_path / "t.csv")).records()
    assert records.boxes.tolist() == [[4, 2, 20, 30], [0, 0, 0, 0]]
    expected = [pixels[2:30, 4:20], pixels]
    files = ImageFiles(records.paths, boxes=records.boxes)
    kept = cached_images(records.paths.tolist(), None, tmp_path / "cache", records.boxes)
    for row, crop in enumerate(expected):
        for images in (files, kept):
            np.testing.assert_array_equal(images[row].permute(1, 2, 0).numpy(), crop)
    whole = cached_images(records.paths.tolist(), None, tmp_path / "cache")
    assert whole[0].shape == (3, 30, 40)  # another cache
    records.write(tmp_path / "out.csv")
    written = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["right"] for row in written] == ["20", "0"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("9,2,4,30", "is empty or begins outside"),
        ("-1,2,4,30", "is empty or begins outside"),
        ("1,2,,30", "is not four numbers"),
        ("a,2,4,30", "is not four numbers"),
        ("inf,2,4,30", "is not four numbers"),
        ("0,0,41,30", "reaches outside of .*40 x 30 pixels"),
    ],
)
def test_boxes_that_do_not_fit(tmp_path: Path, cells: str, message: str) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"path,label,left,top,right,bottom\na.png,x,{cells}\n")

    def read() -> None:
        records = Table(str(tmp_path / "t.csv")).records()
        readable(records, tmp_path / "unreadable.csv")

    with pytest.raises(InputError, match=message):
        read()
    (tmp_path / "t.csv").write_text("path,label,left\na.png,x,1\n")
    with pytest.raises(InputError, match="has only left of a box"):
        Table(str(tmp_path / "t.csv")).records()
