"""A finished checkpoint on other data, from another folder, and with images that can't be read."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.places import moved

Cli = Callable[..., Any]
NEW_CLASSES, EACH = 5, 4


@pytest.fixture
def trained(cli: Cli, tiny: tuple[str, ...], class_folders: Path, tmp_path: Path) -> str:
    """Trained on a folder that was given by a relative path."""
    (tmp_path / "photos").symlink_to(class_folders)
    kept = [each for each in tiny if not each.startswith("data.root")]
    cli("train", *kept, "data.root=photos", "evaluation.before_training=false",
        "hydra.run.dir=run")  # fmt: skip
    return str(tmp_path / "run" / "checkpoints" / "best.ckpt")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Classes that were not trained on: new/<class>/<image>."""
    rng = np.random.default_rng(3)
    for label in range(NEW_CLASSES):
        folder = tmp_path / "new" / f"new{label}"
        folder.mkdir(parents=True)
        for image in range(EACH):
            noise = rng.integers(0, 256, (30, 30, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{image}.png")
    return tmp_path / "new"


def table(new: Path, **columns: Callable[[int], str]) -> str:
    rows = [
        [str(path), path.parent.name, *(value(row) for value in columns.values())]
        for row, path in enumerate(sorted(new.glob("*/*.png")))
    ]
    lines = [["path", "label", *columns], *rows]
    (new / "t.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    return str(new / "t.csv")


def counts(folder: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(Path(folder, "metrics.json").read_text())["counts"]
    return found


def queries(folder: str) -> int:
    return int(json.loads(Path(folder, "metrics.json").read_text())["test/queries"])


@pytest.mark.slow  # test_splits has its splits
def test_every_image_of_other_data_is_measured(cli: Cli, trained: str, new: Path) -> None:
    everything = NEW_CLASSES * EACH
    given = ("evaluate", f"checkpoint={trained}")
    cli(*given, "data=folder", f"data.root={new}", "hydra.run.dir=new_classes")
    cli(*given, "data=table", f"data.source.file={table(new)}", "hydra.run.dir=no_split")
    all_test = table(new, split=lambda _: "test")
    cli(*given, "data=table", f"data.source.file={all_test}", "hydra.run.dir=all_test")
    cli(*given, "data=table", f"data.source.file={all_test}", "data.protocol=official",
        "hydra.run.dir=official")  # fmt: skip
    for folder in ("new_classes", "no_split", "all_test", "official"):
        assert counts(folder)["test_images"] == queries(folder) == everything
    roles = table(new, role=lambda row: "gallery" if row % EACH else "query")
    for protocol in ("auto", "query_gallery"):
        cli(*given, "data=table", f"data.source.file={roles}", f"data.protocol={protocol}",
            f"hydra.run.dir={protocol}")  # fmt: skip
        assert counts(protocol)["test_images"] == everything
        assert queries(protocol) == NEW_CLASSES


def test_a_split_of_other_data_is_kept(cli: Cli, trained: str, new: Path) -> None:
    halves = table(new, split=lambda row: "train" if row % 2 else "test")
    cli("evaluate", f"checkpoint={trained}", "data=table", f"data.source.file={halves}",
        "hydra.run.dir=halves")  # fmt: skip
    assert counts("halves")["test_images"] == NEW_CLASSES * EACH / 2


def test_the_data_trained_on_are_split_as_in_training(
    cli: Cli, trained: str, class_folders: Path
) -> None:
    """Named again, by another path to the same folder."""
    cli("evaluate", f"checkpoint={trained}", "hydra.run.dir=own")
    cli("evaluate", f"checkpoint={trained}", "data=folder", "data.root=../" + Path.cwd().name
        + "/photos", "hydra.run.dir=again")  # fmt: skip
    assert counts("own") == counts("again")
    assert counts("own")["test_classes"] == 8


def test_a_checkpoint_is_used_from_another_folder_and_its_data_move(
    cli: Cli, trained: str, tmp_path: Path, class_folders: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert read_checkpoint(trained).config["data"]["source"]["root"] == str(tmp_path / "photos")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = cli("evaluate", f"checkpoint={trained}", "hydra.run.dir=here")
    (tmp_path / "photos").unlink()
    with pytest.raises(SystemExit):
        cli("evaluate", f"checkpoint={trained}", "hydra.run.dir=gone")
    assert "Set data.root=<folder" in capsys.readouterr().err
    given = (f"checkpoint={trained}", f"data.root={class_folders}")
    assert cli("evaluate", *given, "hydra.run.dir=moved") == expected
    assert cli("search", *given, f"images={class_folders}/class00/0.png", "within=all",
               "hydra.run.dir=found", "num_workers=0") == 1  # fmt: skip


def test_moved_data_keep_what_lies_elsewhere() -> None:
    data = {"root": "/a", "seed": 0, "source": {"root": "/a", "file": "/a/b/t.csv"}}
    assert moved(data, "/z") == {
        "root": "/z", "seed": 0, "source": {"root": "/z", "file": "/z/b/t.csv"}
    }  # fmt: skip
    data = {"root": None, "source": {"root": None, "file": "/a/t.csv"}}
    assert moved(data, "z") == {"root": "z", "source": {"root": "z", "file": "/a/t.csv"}}


def test_unreadable_images_are_listed_and_the_others_answered(
    cli: Cli, trained: str, class_folders: Path, tmp_path: Path, capsys: Any
) -> None:
    for folder in ("asking", "gallery"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            whole = (class_folders / f"class{number:02d}" / "0.png").read_bytes()
            (tmp_path / folder / f"{number}.png").write_bytes(whole[:60] if number == 1 else whole)
    assert cli("search", "images=asking", "gallery=gallery", f"checkpoint={trained}",
               "num_workers=0", "hydra.run.dir=s", "k=9") == 2  # fmt: skip
    rows = list(csv.DictReader(Path("s/matches.csv").read_text().splitlines()))
    assert {Path(row["query"]).name for row in rows} == {"0.png", "2.png"}
    assert {Path(row["match"]).name for row in rows} == {"0.png", "2.png"}
    for listing in ("unreadable_queries.csv", "unreadable_gallery.csv"):
        (bad,) = csv.DictReader(Path("s", listing).read_text().splitlines())
        assert bad["path"].endswith("/1.png")
        assert bad["problem"]
    assert capsys.readouterr().out.count("1 of 3 images can't be read") == 2


def test_other_images_of_trained_classes_get_a_word(
    cli: Cli, trained: str, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("other", read_checkpoint(trained).class_names[0])
    folder.mkdir(parents=True)
    for image in (class_folders / folder.name).iterdir():
        (folder / image.name).write_bytes(image.read_bytes())
    cli("evaluate", f"checkpoint={trained}", "data=folder", "data.root=other", "hydra.run.dir=o")
    assert "1 of the classes were trained on" in capsys.readouterr().out
    assert counts("o")["test_images"] == 6


@pytest.mark.slow
def test_training_names_an_unreadable_image_and_leaves_out_what_prepare_lists(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, tmp_path: Path, capsys: Any
) -> None:
    for folder in sorted(class_folders.iterdir()):
        (tmp_path / "own" / folder.name).mkdir(parents=True)
        for image in folder.iterdir():
            (tmp_path / "own" / folder.name / image.name).write_bytes(image.read_bytes())
    bad = tmp_path / "own" / "class01" / "3.png"
    bad.write_bytes(b"no image")
    kept = [each for each in tiny if not each.startswith("data.root")]
    given = (*kept, "data.root=own", "evaluation.before_training=false")
    with pytest.raises(SystemExit):
        cli("train", *given, "hydra.run.dir=stopped", "data.num_workers=1")
    said = capsys.readouterr().err
    assert "class01/3.png" in said
    assert "lookalike prepare" in said
    with pytest.raises(SystemExit):
        cli("prepare", "data=folder", "data.root=own", "hydra.run.dir=prepared")
    assert "data.exclude=prepared/unreadable.csv" in capsys.readouterr().err
    cli("train", *given, "hydra.run.dir=run", "data.exclude=prepared/unreadable.csv")
    split = Path("run/split.csv").read_text()
    assert "class01/3.png" not in split
    assert len(split.splitlines()) == 1 + 16 * 6 - 1
    cli("evaluate", "checkpoint=run/checkpoints/best.ckpt", "hydra.run.dir=again")
    assert counts("run") == counts("again")
    with pytest.raises(SystemExit):
        cli("evaluate", "checkpoint=run/checkpoints/best.ckpt", "data=folder", "data.root=own")
    said = capsys.readouterr().err
    assert "class01/3.png" in said
    assert "\nlookalike prepare data=folder data.root=own" in said


NAMES = ("7", "$", "a$b$", "shoes [kids]", "[/red]", "caf\u00e9", "1_0", "true")


@pytest.mark.slow
def test_names_of_classes_are_text_from_the_folder_to_the_report(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(NAMES):
        folder = Path("odd", name.replace("/", "\u2215"))
        folder.mkdir(parents=True)
        for image in (class_folders / f"class{number:02d}").iterdir():
            (folder / image.name).write_bytes(image.read_bytes())
    names = {name.replace("/", "\u2215") for name in NAMES}
    kept = [each for each in tiny if "data.root" not in each and "images_per_class" not in each]
    given = (*kept, "data.root=odd", "loss=softmax", "sampler=uniform", "report=confusion",
             "data.protocol=seen_classes", "data.folds=2")  # fmt: skip
    cli("train", *given, "hydra.run.dir=run")
    checkpoint = "checkpoint=run/checkpoints/best.ckpt"
    head, *_ = csv.reader(Path("run/confusion.csv").read_text(encoding="utf-8").splitlines())
    assert set(head[1:]) == names
    assert Path("run/confusion.png").stat().st_size > 1000
    for name in ("7", "1_0", "true"):
        capsys.readouterr()
        assert cli("search", "images=odd/7/0.png", checkpoint, f"class={name}", "num_workers=0",
                   f"hydra.run.dir=s{name}") == 1  # fmt: skip
        (row, *_) = csv.DictReader(Path(f"s{name}/matches.csv").read_text().splitlines())
        assert row["searched_in"] == row["class_name"] == name
    cli("search", "images=odd/7/0.png", checkpoint, "class='shoes [kids]'", "num_workers=0",
        "hydra.run.dir=kids")  # fmt: skip
    assert "[kids]" in capsys.readouterr().out
    cli("train", *given, "data.classes=[7,1_0,true,$]", "hydra.run.dir=four", "report=none")
    split = csv.DictReader(Path("four/split.csv").read_text(encoding="utf-8").splitlines())
    assert {row["class_name"] for row in split} == {"7", "1_0", "true", "$"}
    cli("classify", "images=odd/$", "checkpoint=four/checkpoints/best.ckpt", "num_workers=0",
        "hydra.run.dir=named")  # fmt: skip
