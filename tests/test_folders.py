"""Folders of images as people have them: what is read, under which class, and what is said."""

import os
from pathlib import Path

import pytest
from PIL import Image

from lookalike.data.sources.folder import Folder
from lookalike.errors import InputError
from lookalike.inference.images import find_labelled, find_records


def pictures(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, "PNG")


def read(root: Path, labelled: bool = True) -> dict[str, tuple[str, str]]:
    """Path below the root -> class and split."""
    records = Folder(str(root), labelled).records()
    names = [records.class_names[label] for label in records.labels]
    paths = [Path(path).relative_to(root).as_posix() for path in records.paths]
    return dict(zip(paths, zip(names, records.splits.tolist(), strict=True), strict=True))


@pytest.mark.parametrize("extra", ["__MACOSX/train/._a.png", "notes/readme.txt", "sketch/x/1.png"])
def test_a_folder_beside_the_splits_leaves_them_splits(tmp_path: Path, extra: str) -> None:
    pictures(tmp_path, "train/cat/1.png", "val/cat/2.png", "test/dog/3.png", extra)
    assert read(tmp_path) == {
        "train/cat/1.png": ("cat", "train"),
        "val/cat/2.png": ("cat", "val"),
        "test/dog/3.png": ("dog", "test"),
    }


def test_images_beside_the_splits_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path, "train/cat/1.png", "test/cat/2.png", "more/cat/3.png", "4.png", "test/5.png")
    assert len(read(tmp_path)) == 2
    assert "3 files skipped: 2 beside test, train" in caplog.text
    assert "1 outside of class folders" in caplog.text


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    pictures(tmp_path, "train/1.png", "bus/2.png", "car/deep/3.png")
    assert {name for name, _ in read(tmp_path).values()} == {"train", "bus", "car"}


def test_a_split_that_may_be_a_class_is_asked_about(tmp_path: Path) -> None:
    pictures(tmp_path, "train/steam/1.png", "bus/2.png")
    with pytest.raises(InputError, match="train a split or a class"):
        read(tmp_path)
    assert {name for name, _ in read(tmp_path, labelled=False).values()} == {"train", "bus"}


@pytest.mark.parametrize("names", [("train/1.png", "test/2.png"), ("train/1.png",)])
def test_splits_without_class_folders_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    pictures(tmp_path, *names)
    with pytest.raises(InputError, match=r"(train|test) holds 1 images and no class folders"):
        read(tmp_path)


def test_hidden_folders_are_skipped_at_every_depth(tmp_path: Path) -> None:
    pictures(
        tmp_path, "cat/1.png", "cat/.ipynb_checkpoints/1-checkpoint.png", "cat/a/.thumbs/b/2.png",
        ".git/3.png", "cat/@eaDir/4.png", "cat/__MACOSX/5.png",
    )  # fmt: skip
    assert list(read(tmp_path)) == ["cat/1.png"]
    assert len(find_records([str(tmp_path)])) == 1


def test_what_is_skipped_is_counted_by_kind_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path, "cat/1.png", "dog/2.png", "loose.png", "cat/.hidden.png", "cat/._1.png")
    for number in range(4):
        (tmp_path / "cat" / f"{number}.CR2").touch()
    (tmp_path / "dog" / "notes").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog" / "gone.png").symlink_to("nowhere.png")
    source = Folder(str(tmp_path))
    source.prepare()
    assert not caplog.text  # as records() says it
    source.records()
    assert "8 files skipped: 4 .cr2 (" in caplog.text
    for part in (
        "/cat/0.CR2, ", ", ...)", "1 broken link (", "1 hidden (", "/cat/.hidden.png)",
        "1 outside of class folders (", "1 without extension (",
        "class folders without images: 1 (",
    ):  # fmt: skip
        assert part in caplog.text, part
    assert len(caplog.records) == 2


def test_links_are_followed_at_every_depth_and_loops_end(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    pictures(root, "cat/1.png")
    pictures(other, "dogs/2.png", "more/3.png", "more/deep/4.png")
    (root / "dog").symlink_to(other / "dogs")
    (root / "cat" / "sub").mkdir()
    (root / "cat" / "sub" / "linked").symlink_to(other / "more")
    (root / "cat" / "loop").symlink_to(root / "cat")
    (root / "cat" / "sub" / "up").symlink_to(root)
    expected = {"cat/1.png": "cat", "dog/2.png": "dog", "cat/sub/linked/3.png": "cat",
                "cat/sub/linked/deep/4.png": "cat"}  # fmt: skip
    with pytest.raises(InputError, match="there twice"):  # dogs are cats, through the link
        read(root)
    (root / "cat" / "sub" / "up").unlink()
    assert {path: name for path, (name, _) in read(root).items()} == expected


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_one_file_under_two_classes_is_refused(tmp_path: Path, kind: str) -> None:
    pictures(tmp_path, "cat/1.png", "dog/2.png")
    if kind == "folder":
        (tmp_path / "lynx").symlink_to(tmp_path / "cat")
    else:
        (tmp_path / "dog" / "other.png").symlink_to(tmp_path / "cat" / "1.png")
    with pytest.raises(InputError, match=r"there twice.*cat/1\.png \(class 'cat'\) and .*Keep one"):
        read(tmp_path)


def test_all_ends_of_names_are_read(tmp_path: Path) -> None:
    for end in ("jpe", "jfif", "JPEG", "Jpg"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "cat" / f"{end}.{end}", "JPEG")
    assert len(read(tmp_path)) == 4


def test_a_gallery_has_loose_images_too(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "cat/2.png", ".ipynb_checkpoints/3.png")
    records = find_labelled(str(tmp_path))
    assert [records.class_names[label] for label in records.labels] == ["cat", ""]
    (tmp_path / "cat" / "2.png").unlink()
    assert find_labelled(str(tmp_path)).class_names == ("",)
    pictures(tmp_path, "train/cat/4.png", "test/5.png", "test/cat/6.png")
    assert read(tmp_path, labelled=False) == {
        "1.png": ("", ""), "train/cat/4.png": ("cat", "train"), "test/5.png": ("", "test"),
        "test/cat/6.png": ("cat", "test"),
    }  # fmt: skip


def test_one_class_however_unicode_is_written(tmp_path: Path) -> None:
    pictures(tmp_path, "train/caf\u00e9/1.png", "test/cafe\u0301/2.png")
    records = Folder(str(tmp_path)).records()
    assert records.class_names == ("caf\u00e9",)
    assert records.of_classes(["cafe\u0301"]).labels.tolist() == [0, 0]
    assert records.labels_as(["x", "cafe\u0301"]).tolist() == [1, 1]


def test_classes_that_are_nearly_the_same_get_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(
        tmp_path, "Cat/1.png", "cat/2.png", "dog/3.png", "zero\u200bwidth/4.png", "zerowidth/5.png"
    )
    assert len({name for name, _ in read(tmp_path).values()}) == 5
    assert "may be one: 'Cat' and 'cat'; 'zerowidth' and 'zero" in caplog.text


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(InputError, match=r"caf.*is not in UTF-8"):
        read(tmp_path)


def test_a_folder_named_with_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, "2024/cat/1.png")
    monkeypatch.chdir(tmp_path)
    assert len(Folder(2024).records()) == 1  # type: ignore[arg-type]
