"""Tables of images as people have them: no row is lost, and no label is guessed."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from lookalike.data.records import Records
from lookalike.data.sources.table import Table
from lookalike.errors import InputError
from lookalike.inference.images import find_labelled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    return tmp_path


def read(folder: Path, text: str | bytes) -> Records:
    file = folder / "t.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Table(str(file)).records()


def named(records: Records) -> list[str]:
    return [records.class_names[label] for label in records.labels]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,x\nb.png,y\n",
        "\ufeffpath,label\r\na.png,x\r\nb.png,y\r\n",  # of Excel
        " path , label\n a.png , x \nb.png,\ty",
        'label,note,path\n"x","a, b",a.png\n\ny,"say ""hi""",b.png\n',
        'path, label\n"a.png", "x"\n"b.png", "y"\n',
        "path,label\na.png,x\r\nb.png,y\n\n",
    ],
)
def test_ways_to_write_the_same_table(folder: Path, text: str) -> None:
    assert named(read(folder, text)) == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,\nb.png,y\n", r"1 of the 2 rows .* have no label \(rows 1\)"),
        ("path,label\na.png,nan\nb.png, \n", r"2 of the 2 rows .* \(rows 1, 2\)"),
        ('path,label\na.png,"x\nb.png,y\nc.png,z\n', "unexpected end of data.*quotes"),
        ('path,label\na.png,"x\nb.png,y"\nc.png,z\n', "cell that goes on in line 3"),
        ('path,label,size\na.png,x,"5\nb.png,y,6\nc.png,z,5"\n', "cell that goes on in line 4"),
        ('path,label\na.png,"x"y\n', "expected after"),
        ("path,label\na.png,x,y\nb.png,y\n", "3 cells in line 2, and 2 columns"),
        ("path,label\na.png\n", "1 cells in line 2"),
        ("path;label\na.png;x\n", "no column 'path', only path;label"),
        ("path,label,label\na.png,x,y\n", "several columns 'label'"),
        ("path,lable\na.png,x\n", "Did you mean lable"),
        ("", "no column 'path', only nothing"),
        ("path,label\n", "no images"),
        (b"path,label\na.png,caf\xe9\n", "Save it as CSV in UTF-8"),
        ("path,label\na.png,x\n".encode("utf-16"), "Save it as CSV in UTF-8"),
        ("path,label\n,x\n", "in row 1, is"),
        ("path,label\na\0.png,x\n", "images .* are missing|can't read the table"),
        ("path,label\na.png,x\nb.png,y\na.png,x\n", r"a\.png: row 1 \(label 'x'\) and row 3"),
        ("path,label\na.png,x\n./a.png,y\n", r"row 1 \(label 'x'\) and row 2 \(label 'y'\)"),
        ("path,label,role\na.png,x,query\na.png,x,gallery\n", "role 'query'.* and row 2"),
        ("path,label,split\na.png,x,train\na.png,x,test\n", "split 'train'.* and row 2"),
        ("path,label,split\na.png,x,dev\n", "unknown split 'dev'"),
        (f"path,label\na.png,{'x' * 200_000}\n", "field limit"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, text)


def test_one_file_through_a_link_is_one_file(folder: Path) -> None:
    (folder / "link.png").symlink_to("a.png")
    with pytest.raises(InputError, match="there twice"):
        read(folder, "path,label\na.png,x\nlink.png,y\n")


def test_one_file_may_have_several_boxes(folder: Path) -> None:
    head = "path,label,left,top,right,bottom\n"
    assert len(read(folder, f"{head}a.png,x,0,0,2,2\na.png,y,2,0,4,2\n")) == 2
    with pytest.raises(InputError, match="there twice"):
        read(folder, f"{head}a.png,x,0,0,2,2\na.png,y,0,0,2,2\n")


def test_white_space_and_unicode_make_no_classes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = read(folder, "path,label\na.png,c00 \nb.png,c00\nc.png,\u00a0c00\n")
    assert records.class_names == ("c00",)
    assert read(folder, "path,label\na.png,\u00e9\nb.png,e\u0301\n").num_classes == 1
    assert not caplog.text
    assert read(folder, "path,label\na.png,c 00\nb.png,c00\n").num_classes == 2
    assert "may be one: 'c 00' and 'c00'" in caplog.text


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([7.0, 10.0], ["7", "10"]),
        ([7, 10], ["7", "10"]),
        ([b"x", b"y"], ["x", "y"]),
        ([True, False], ["True", "False"]),
        ([0.5, 1.0], ["0.5", "1"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
    ],
)
def test_labels_of_parquet_are_text(folder: Path, labels: object, expected: list[str]) -> None:
    parquet.write_table(
        pa.table({"path": ["a.png", "b.png"], "label": labels}), folder / "t.parquet"
    )
    assert named(Table(str(folder / "t.parquet")).records()) == expected


@pytest.mark.parametrize("labels", [["x", None], [1.0, float("nan")], [[1], [2]], [b"\xff", b"x"]])
def test_labels_of_parquet_that_are_none(folder: Path, labels: list[object]) -> None:
    parquet.write_table(
        pa.table({"path": ["a.png", "b.png"], "label": labels}), folder / "t.parquet"
    )
    with pytest.raises(InputError, match=r"no label \(rows 2\)|has a list|can't read the table"):
        Table(str(folder / "t.parquet")).records()


def test_a_gallery_needs_no_labels(folder: Path) -> None:
    (folder / "t.csv").write_text("path,label\na.png,x\nb.png,\na.png,x\n")
    assert named(find_labelled(str(folder / "t.csv"))) == ["x", "", "x"]


def test_the_order_of_classes_is_one_in_every_process(tmp_path: Path) -> None:
    code = (
        "from lookalike.data.records import Records\n"
        "names = ['1', '01', '001', '10', '2', '9' * 5000]\n"
        "print([name[:3] for name in Records.create(names, names).class_names])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in "123"
        for path in [str(Path(__file__).parents[1] / "src")]
    }  # fmt: skip
    assert printed == {"['001', '01', '1', '2', '10', '999']\n"}
