"""Listings: rows of official files, and what is said of files that are damaged."""

import logging
from pathlib import Path

import pytest

from lookalike.data.records import Records
from lookalike.data.sources.listing import (
    Listing,
    check_images,
    class_ids,
    compare_with_published,
    meanings,
)
from lookalike.errors import InputError

REMEDY = "Fetch it again"


def listing(tmp_path: Path, text: str | bytes, **how: bool) -> Listing:
    file = tmp_path / "list.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Listing(file, "id name", REMEDY, **how)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n\n", ""])
def test_rows_of_every_kind_of_file(tmp_path: Path, end: str) -> None:
    rows = [["1", "a"], ["2", "b/ü.jpg"]]
    body = f"1   a{end.strip(' ') or chr(10)}2\tb/ü.jpg{end}"
    body = body.replace("\n\n\n2", "\n2")
    assert listing(tmp_path, body).rows() == rows
    assert listing(tmp_path, f"id name\n{body}", named=True).rows() == rows
    assert listing(tmp_path, f"2\nid  name \n{body}", named=True, counted=True).rows() == rows


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("1 a\n2\n3 c\n", {}, r"says '2' in line 2, not 'id name'"),
        ("1 a\n\n3 c\n", {}, r"says '' in line 2"),
        ("1 a\n2 b c\n", {}, r"says '2 b c' in line 2"),
        ("id name\n1 a\n2\n", {"named": True}, r"says '2' in line 3"),
        ("1 a\n2 b\n", {"named": True}, r"has no line 'id name' above its rows"),
        ("id label\n1 a\n", {"named": True}, r"has no line 'id name'"),
        ("", {}, "lists no images"),
        ("", {"named": True, "counted": True}, "has no line 'id name'"),
        ("id name\n", {"named": True}, "lists no images"),
        ("3\nid name\n1 a\n2 b\n", {"named": True, "counted": True}, "3 rows follow, and has 2"),
        ("1 a\n2 \xff".encode("latin-1"), {}, "can't be read"),
    ],
)
def test_damaged_files(
    tmp_path: Path, text: str | bytes, how: dict[str, bool], message: str
) -> None:
    damaged = listing(tmp_path, text, **how)
    with pytest.raises(InputError, match=message) as caught:
        damaged.rows()
    assert str(caught.value).startswith(str(damaged.file))
    assert str(caught.value).endswith(f". {REMEDY}")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"gone\.txt is missing\. {REMEDY}"):
        Listing(tmp_path / "gone.txt", "id name", REMEDY).rows()


def test_class_ids_count_from_one() -> None:
    assert class_ids(["2", "1", "3", "2"], Path("f"), REMEDY) == [2, 1, 3, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "2", "4"], "in f jump from 2 to 4"),
        (["2", "3"], "in f jump from 0 to 2"),
        (["0", "1"], "jump from 0 to 0"),
        (["1", "two"], "is not a number: .*'two'"),
    ],
)
def test_class_ids_that_are_wrong(values: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        class_ids(values, Path("f"), REMEDY)
    assert REMEDY in str(caught.value)


def test_meanings() -> None:
    known = {"1": "train", "0": "test"}
    assert meanings(["0", "1", "0"], known, Path("f"), REMEDY) == ["test", "train", "test"]
    with pytest.raises(InputError, match=r"f says '2', not one of 1, 0\. Fetch"):
        meanings(["0", "2"], known, Path("f"), REMEDY)


def test_missing_images_are_counted(tmp_path: Path) -> None:
    images = [tmp_path / f"{number}.jpg" for number in range(5)]
    for image in (images[0], images[2], images[4]):
        image.touch()
    images[3].mkdir()  # a folder is no image
    with pytest.raises(InputError, match=r"2 of 5 images are missing, first .*1\.jpg\. Fetch"):
        check_images(images, REMEDY)
    check_images([images[0], images[4]], REMEDY)


def test_other_counts_than_published_are_told(caplog: pytest.LogCaptureFixture) -> None:
    records = Records.create(
        list("abcdef"),
        ["1", "1", "2", "3", "3", "3"],
        splits=["train", "train", "train", "test", "test", ""],
        roles=["both", "both", "both", "query", "gallery", "gallery"],
    )
    right = {"images": 6, "classes": 3, "train images": 3, "train classes": 2, "test images": 2}
    right |= {"test classes": 1, "query images": 1, "gallery images": 2, "gallery classes": 1}
    with caplog.at_level(logging.WARNING):
        compare_with_published(records, "Things", right)
        assert not caplog.records
        compare_with_published(records, "Things", right | {"classes": 4, "query images": 7})
    assert "not Things as published" in caplog.text
    assert "3 classes, not 4; 1 query images, not 7." in caplog.text
