"""Reports: what is written after a run, and that pictures show what they should."""

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from lookalike.data.decoding import read_image
from lookalike.data.records import Records
from lookalike.evaluation.plan import Evaluation
from lookalike.reports import style
from lookalike.reports.answers import Answers, answers
from lookalike.reports.curves import Curve, Curves, by_epoch, read_curves
from lookalike.reports.finished import FinishedRun
from lookalike.reports.pairs import Pairs, pair_distances
from lookalike.reports.sheet import (
    FRAME,
    LINE,
    Tile,
    contact_sheet,
    shortened,
    title_font,
)
from lookalike.reports.style import NEITHER, RIGHT, WRONG
from lookalike.retrieval.embeddings import Embeddings

Cli = Callable[..., Any]


@pytest.fixture
def finished(class_folders: Path, tmp_path: Path) -> FinishedRun:
    """Six classes x 6 images tested, of which one is only a query and one is only stored."""
    paths = sorted(class_folders.glob("*/*.png"))[:36]
    roles = ["both"] * 36
    roles[0], roles[7] = "query", "gallery"
    records = Records.create(
        paths, [path.parent.name for path in paths], splits=["test"] * 36, roles=roles
    )
    vectors = np.random.default_rng(0).normal(size=(36, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = Embeddings(vectors, records.labels, np.arange(36))
    untrained = replace(embeddings, vectors=np.roll(vectors, 1, axis=0))
    return FinishedRun(tmp_path, Evaluation(), 1, records, embeddings, untrained, nn.Identity())


@pytest.mark.parametrize("k", [3, 50])
def test_answers_are_the_nearest_by_a_double_loop(finished: FinishedRun, k: int) -> None:
    vectors = finished.embeddings.vectors.astype(np.float64)
    found = answers(finished, k)
    assert [query for query, _, _ in found] == [row for row in range(36) if row != 7]
    for query, ids, distances in found:
        squared = {
            row: float(((vectors[query] - vectors[row]) ** 2).sum())
            for row in range(36)
            if row not in (query, 0)
        }
        nearest = sorted(squared, key=squared.__getitem__)[:k]
        assert ids == nearest
        assert distances == pytest.approx([squared[row] for row in nearest], abs=1e-5)


def test_answers_are_written_as_table_and_picture(finished: FinishedRun) -> None:
    table, picture = Answers(k=2, shown=3).write(finished)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 35 * 2
    assert {row["rank"] for row in rows} == {"1", "2"}
    for row in rows:
        assert row["query"] != row["path"]
        assert int(row["right"]) == (row["query_class"] == row["class"])
        assert Path(row["path"]).parent.name == row["class"]
    assert read_image(picture).width > 3 * 128


def test_pairs_are_measured_and_shown(finished: FinishedRun) -> None:
    files = Pairs(per_class=5, shown=4).write(finished)
    assert [file.name for file in files] == ["verification.json", "roc.png", "pairs.png"]
    numbers = json.loads(files[0].read_text())
    assert numbers["positive_pairs"] == numbers["negative_pairs"] == 30
    assert 0 <= numbers["equal_error_rate"] <= 1
    assert numbers["epoch_0/auc"] != numbers["auc"]
    alone = json.loads(Pairs(5).write(replace(finished, untrained=None))[0].read_text())
    assert alone == {name: value for name, value in numbers.items() if "epoch_0" not in name}
    heights = [read_image(Pairs(5, shown).write(finished)[2]).height for shown in (1, 4, 100)]
    assert heights[1] - heights[0] == 3 * (heights[2] - heights[1]) / 2  # 1, 4 and all 6 classes


def test_distances_of_pairs_by_a_loop(finished: FinishedRun) -> None:
    pairs = np.array([[0, 1], [5, 5], [35, 2]])
    vectors = finished.embeddings.vectors.tolist()
    expected = [math.dist(vectors[a], vectors[b]) for a, b in pairs.tolist()]
    assert pair_distances(finished.embeddings, pairs) == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_draws_the_same_pairs(finished: FinishedRun) -> None:
    first, again, other = (
        Pairs(per_class=4, seed=seed).write(finished)[0].read_text() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def luminance(colour: str) -> float:
    """Of W3C's Web Content Accessibility Guidelines 2.1."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
              for c in (value / 255 for value in rgb(colour))]  # fmt: skip
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_colours_are_seen_on_their_paper() -> None:
    assert len(set(style.COLOURS)) == len(set(style.IN_THE_DARK)) == len(style.COLOURS)
    for colour in style.COLOURS:
        assert 1.05 / (luminance(colour) + 0.05) >= 3
    for colour in style.IN_THE_DARK:
        assert (luminance(colour) + 0.05) / (luminance("#15171a") + 0.05) >= 3
    css = style.custom_properties()
    assert all(f":{colour}" in css for colour in (*style.COLOURS, *style.IN_THE_DARK))


def test_series_differ_without_colour() -> None:
    looks = [(style.dashes(look), style.marker(look).plot) for look in range(24)]
    assert len(set(looks)) == 24
    assert len({sign.path for sign in style.MARKERS}) == len(style.MARKERS)


def test_only_the_style_names_colours() -> None:
    folder = Path(style.__file__).parent
    files = [file for file in folder.rglob("*.py") if file.name != "style.py"]
    assert len(files) > 25
    for file in files:
        found = re.findall(r"""["']#[0-9a-fA-F]{6}["']|cmap="|figsize=|dpi=""", file.read_text())
        assert found == [], file


def frame_colours(image: Image.Image) -> set[tuple[int, ...]]:
    """Colours of the bottom line of the frame of the only tile."""
    row = image.height - 11  # the gap below is 10 pixels
    return {image.getpixel((x, row)) for x in range(10, image.width - 10)}


def test_right_and_wrong_differ_without_colour(class_folders: Path) -> None:
    path = next(class_folders.glob("*/*.png"))
    sheets = {v: contact_sheet([[Tile(path, (), v)]], side=64) for v in (True, False, None)}

    white = (255, 255, 255)
    assert frame_colours(sheets[True]) == {rgb(RIGHT)}
    assert frame_colours(sheets[False]) == {rgb(WRONG), white}  # dashed
    assert frame_colours(sheets[None]) == {rgb(NEITHER)}
    signs = [np.asarray(s.crop((10, 10, 31, 31)).convert("L")) < 200 for s in sheets.values()]
    assert (signs[0] != signs[1]).sum() > 20
    inner = slice(10 + FRAME + 30, 10 + FRAME + 60)
    pictures = [np.asarray(sheet)[inner, inner] for sheet in sheets.values()]
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_a_sheet_has_room_for_the_longest_row_and_title(class_folders: Path) -> None:
    tile = Tile(next(class_folders.glob("*/*.png")))
    titled = Tile(tile.path, ("one", "two"))
    plain = contact_sheet([[tile, tile, tile], [tile]], side=32)
    assert plain.size == (3 * (32 + 2 * FRAME + 10) + 10, 2 * (32 + 2 * FRAME + 10) + 10)
    assert contact_sheet([[tile, tile, tile], [titled]], side=32).height - plain.height == 2 * LINE
    assert contact_sheet([[tile, None, tile]], side=32).width < plain.width


def test_long_titles_keep_their_end() -> None:
    font = title_font()
    assert shortened("rose", 128, font) == "rose"
    short = shortened("n02102973-Irish_water_spaniel_of_the_longest_kind", 128, font)
    assert short.startswith("...")
    assert short.endswith("the_longest_kind")
    assert font.getlength(short) <= 128
    assert shortened("rose", 0, font) == ""


@pytest.mark.parametrize("letter", ["²", "é", "ø", "Ж"])
def test_titles_have_letters_beyond_ascii(letter: str) -> None:
    missing = title_font().getmask(chr(0x10FFFF))  # what is drawn for a letter that is not there
    assert bytes(title_font().getmask(letter)) != bytes(missing)


def test_curves_are_read_by_epoch(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(
        "epoch,epoch_0/val/map,epoch_0/test/map,step,train/loss,val/map,test/map\n"
        "0,0.1,,0,,,\n0,,0.2,0,,,\n0,,,1,5.0,,\n0,,,3,,0.3,\n1,,,5,4.0,,\n1,,,7,,0.4,\n2,,,8,,,0.5\n"
    )
    curves = read_curves(file)
    assert set(curves) == {"train/loss", "val/map"}
    assert curves["val/map"].epochs.tolist() == [0, 1, 2]
    assert curves["val/map"].values.tolist() == [0.1, 0.3, 0.4]
    assert curves["train/loss"].epochs.tolist() == [0.5, 1.5]
    assert curves["train/loss"].values.tolist() == [5.0, 4.0]


@pytest.mark.parametrize(
    ("start", "words"), [("0.4", "(star); epoch 0 was better"), ("0.2", "(star)")]
)
def test_the_picture_says_if_the_start_was_better(
    finished: FinishedRun, start: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "lookalike.reports.curves.save_figure", lambda figure, file: drawn.append(figure)
    )
    (finished.folder / "metrics.csv").write_text(
        "epoch,epoch_0/val/map_at_r,step,train/loss,val/map_at_r\n"
        f"0,{start},0,,\n0,,1,5.0,\n0,,3,,0.3\n1,,5,4.0,\n1,,7,,0.2\n"
    )
    Curves().write(finished)
    assert drawn[0].axes[-1].get_xlabel() == f"epochs trained; MAP@R chose epoch 1 {words}"


def test_means_of_epochs() -> None:
    steps = np.arange(1, 8) / 3  # the last epoch has begun
    found = by_epoch(Curve(steps, np.array([1.0, 2, 3, 4, 5, 6, 9])))
    assert found.epochs.tolist() == [1, 2, 3]
    assert found.values.tolist() == [2, 5, 9]


def test_a_run_writes_all_its_reports(cli: Cli, tiny: tuple[str, ...], capsys: Any) -> None:
    cli(
        "train", *tiny, "report=[curves,answers,pairs]", "hydra.run.dir=run",
        "evaluation.refit=true", "loss=norm_softmax", "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
    )  # fmt: skip
    printed = capsys.readouterr().out
    for name in ("curves.png", "answers.csv", "answers.png", "verification.json", "pairs.png"):
        assert (Path("run") / name).is_file()
        assert f"run/{name}" in printed


@pytest.mark.slow
def test_a_report_sees_what_was_trained(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FinishedRun] = []
    monkeypatch.setattr(
        "lookalike.reports.curves.Curves.write", lambda self, run: seen.append(run) or []
    )
    cli("train", *tiny, "report=curves", "loss=norm_softmax", "hydra.run.dir=plain")
    cli(
        "train", *tiny, "report=curves", "loss=norm_softmax", "hydra.run.dir=refitted",
        "evaluation.refit=true",
    )  # fmt: skip
    plain, refitted = seen
    assert [tuple(run.loss.state_dict()["W"].shape) for run in seen] == [(8, 6), (8, 8)]
    assert len(plain.records.ids("val")) == 12
    assert len(refitted.records.ids("val")) == 0
    for run in seen:
        assert run.untrained is not None
        assert not np.allclose(run.untrained.vectors, run.embeddings.vectors)
        assert run.embeddings.ids.tolist() == run.records.ids("test").tolist()
        assert not run.loss.training


def test_a_wrong_argument_of_a_report_is_found_before_training(
    cli: Cli, tiny: tuple[str, ...], capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        cli("train", *tiny, "report=answers", "+report.answers.kk=3")
    assert "takes no 'kk'" in capsys.readouterr().err
    assert not list(Path("outputs").glob("train/*/split.csv"))
