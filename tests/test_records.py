"""Records from folders and tables, and the table that is written."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from lookalike.data.folder import Folder
from lookalike.data.records import Records
from lookalike.data.table import Table
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
    with pytest.raises(InputError, match=r"1 of the 1 images .* are not there"):
        Table(str(file)).records()
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="can't read the table"):
        Table(str(tmp_path / "broken.parquet")).records()
