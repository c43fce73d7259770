"""Protocols: who trains, validates and tests."""

import csv
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.data.measurable import check_measurable
from lookalike.data.records import Records
from lookalike.data.splits import assign_splits, without_validation
from lookalike.errors import InputError


def records(classes: int, images: int = 10, **columns: list[str]) -> Records:
    names = [f"{label:03d}" for label in range(classes) for _ in range(images)]
    return Records.create([f"{row}.png" for row in range(len(names))], names, **columns)


def classes_of(found: Records, split: str) -> list[int]:
    return np.unique(found.labels[found.ids(split)]).tolist()


def test_zero_shot_tests_on_the_second_half() -> None:
    found = assign_splits(records(102), "zero_shot")
    assert classes_of(found, "test") == list(range(51, 102))
    assert classes_of(found, "val") == list(range(0, 51, 4))
    assert sorted(classes_of(found, "train") + classes_of(found, "val")) == list(range(51))


def test_folds_are_disjoint_and_cover_the_training_half() -> None:
    folds = [
        classes_of(assign_splits(records(40), "zero_shot", 4, fold), "val") for fold in range(4)
    ]
    assert sorted(label for fold in folds for label in fold) == list(range(20))


def test_refitting_trains_on_validation_and_never_on_test() -> None:
    found = assign_splits(records(40), "zero_shot")
    refitted = without_validation(found)
    assert classes_of(refitted, "train") == list(range(20))
    assert classes_of(refitted, "val") == []
    np.testing.assert_array_equal(refitted.ids("test"), found.ids("test"))


@pytest.mark.parametrize("protocol", ["zero_shot", "official"])
def test_a_class_disjoint_split_is_kept(protocol: str) -> None:
    splits = [part for label in range(20) for part in ["test" if label % 3 else "train"] * 10]
    found = assign_splits(records(20, splits=splits), protocol, folds=2, fold=1)
    assert classes_of(found, "train") == [0, 6, 12, 18]
    assert classes_of(found, "val") == [3, 9, 15]
    assert classes_of(found, "test") == [label for label in range(20) if label % 3]


@pytest.mark.parametrize("other", ["train", "val", ""])
def test_a_split_that_shares_a_class_or_has_other_parts_is_no_halves(other: str) -> None:
    splits = ["test"] * 100 + ["train"] * 100
    splits[0] = other
    found = assign_splits(records(20, splits=splits), "zero_shot")
    assert classes_of(found, "test") == list(range(10, 20))


@pytest.mark.parametrize(("classes", "folds"), [(3, 2), (6, 2), (7, 4), (8, 4)])
def test_too_few_classes_for_zero_shot(classes: int, folds: int) -> None:
    with pytest.raises(InputError, match=r"Set data\.protocol=seen_classes"):
        assign_splits(records(classes), "zero_shot", folds)


def test_seven_classes_are_enough_for_two_folds() -> None:
    for fold in (0, 1):
        found = assign_splits(records(7), "zero_shot", 2, fold)
        assert min(len(classes_of(found, split)) for split in ("train", "val", "test")) == 2


def test_official_split_is_kept() -> None:
    splits = ["train", "val", "test", ""] * 10
    found = assign_splits(records(4, splits=splits), "official")
    assert found.splits.tolist() == splits
    with pytest.raises(InputError, match=r"Set data\.fold=0"):  # it would train the same again
        assign_splits(records(4, splits=splits), "official", fold=1)


def test_official_without_test_is_tested_on_its_val_and_validated_on_train() -> None:
    splits = (["train"] * 8 + ["val"] * 2) * 3
    found = assign_splits(records(3, splits=splits), "official")
    np.testing.assert_array_equal(found.ids("test"), np.flatnonzero(np.array(splits) == "val"))
    assert len(found.ids("val")) == 3 * 2  # one in four of 8 images a class
    assert classes_of(found, "val") == classes_of(found, "train") == [0, 1, 2]


def test_official_without_a_split() -> None:
    with pytest.raises(InputError, match="has no split of its own"):
        assign_splits(records(10), "official")


def test_seen_classes_has_every_class_in_every_part() -> None:
    found = assign_splits(records(3), "seen_classes")
    for split, images in (("test", 6), ("val", 6), ("train", 18)):
        assert len(found.ids(split)) == images
        assert classes_of(found, split) == [0, 1, 2]


def test_query_gallery_keeps_roles_and_validates_on_training_classes() -> None:
    splits = (["train"] * 80) + ["test"] * 20
    roles = ["both"] * 80 + ["query", "gallery"] * 10
    found = assign_splits(records(10, splits=splits, roles=roles), "query_gallery", folds=4)
    assert classes_of(found, "val") == [0, 4]
    assert classes_of(found, "test") == [8, 9]
    assert found.roles.tolist() == roles


def test_query_gallery_needs_roles() -> None:
    found = replace(records(10), splits=np.array(["train"] * 100))
    with pytest.raises(InputError, match="columns split and role"):
        assign_splits(found, "query_gallery")


def test_a_misspelt_protocol_and_a_fold_out_of_range() -> None:
    with pytest.raises(InputError, match="Did you mean zero_shot"):
        assign_splits(records(20), "zeroshot")
    with pytest.raises(InputError, match=r"data\.fold=4"):
        assign_splits(records(20), "zero_shot", folds=4, fold=4)


@pytest.mark.real
@pytest.mark.parametrize(("name", "lines"), [("flowers", 102), ("dogs", 120), ("furniture", 3384)])
def test_the_published_split_files_are_those_of_the_code(
    name: str, lines: int, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_DATA", str(real_data))
    folder = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
    rows = runpy.run_path(str(folder / "splits.py"))["rows"](name)
    with (folder / "splits" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == rows
    assert len(rows) == 1 + lines


@pytest.mark.parametrize(
    ("classes", "columns", "protocol"),
    [
        (40, {}, "zero_shot"),
        (9, {}, "seen_classes"),
        (6, {}, "seen_classes"),
        (2, {}, "seen_classes"),
        (20, {"splits": ["train", "test"] * 100}, "official"),
        (20, {"splits": ["train", "train", "val", "test", ""] * 40}, "official"),
        (20, {"splits": ["train"] * 200}, "zero_shot"),
        (20, {"splits": [""] * 200}, "zero_shot"),
        (
            20,
            {"splits": ["train"] * 100 + ["test"] * 100, "roles": ["query", "gallery"] * 100},
            "query_gallery",
        ),
    ],
)
def test_the_protocol_that_fits(
    classes: int, columns: dict, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = records(classes, **columns)
    fold = 0 if protocol == "official" else 1
    with caplog.at_level("INFO"):
        found = assign_splits(data, "auto", fold=fold)
    assert f"data.protocol={protocol}: " in caplog.text
    np.testing.assert_array_equal(found.splits, assign_splits(data, protocol, fold=fold).splits)


@pytest.mark.parametrize(
    ("given", "tested"),
    [
        ([""] * 40, 40),
        (["test"] * 40, 40),
        (["train"] * 40, 40),
        (["train", "test"] * 20, 20),
        (["train", "val"] * 20, 20),
        (["val", "test"] * 20, 20),
        (["", "test"] * 20, 20),
        (["train", "val", "test", "val"] * 10, 10),
    ],
)
def test_a_trained_network_is_measured_on_all_that_is_for_the_test(
    given: list[str], tested: int
) -> None:
    found = assign_splits(records(4, splits=given), "test")
    assert len(found.ids("test")) == tested


@pytest.mark.parametrize("protocol", ["auto", "official", "test"])
@pytest.mark.parametrize("part", ["val", "test"])
def test_data_that_are_all_for_the_test_are_measured_whole(protocol: str, part: str) -> None:
    found = assign_splits(records(4, splits=[part] * 40), protocol)
    assert len(found.ids("test")) == 40


@pytest.mark.parametrize("protocol", ["auto", "query_gallery", "test"])
@pytest.mark.parametrize("split", ["", "test"])
def test_queries_and_a_gallery_alone_are_measured_whole(protocol: str, split: str) -> None:
    given = {"roles": ["query", "gallery"] * 20, "splits": [split] * 40}
    assert len(assign_splits(records(4, **given), protocol).ids("test")) == 40


def test_images_in_no_part_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assign_splits(records(4, splits=["train", "test", "", "test"] * 10), "official")
    assert "10 of 40 images are in no part" in caplog.text


@pytest.mark.parametrize(
    ("splits", "roles", "groups", "message"),
    [
        (["val", "val"] * 20, None, ["cam1"] * 40, r"one group \(cam1\).*column group"),
        (["val"] * 40, None, ["a"] * 10 + ["b"] * 10 + ["c"] * 10 + ["d"] * 10, r"a, b, c, \.\.\."),
        (["val"] + ["train"] * 9, None, None, "another image of its class.* data.folds to less"),
        (["val"] * 40, ["query"] * 40, None, "no query of the val part has"),
        (["val"] * 40, ["gallery"] * 40, None, "no query of the val part has"),
        (["val"] * 40, ["query"] * 20 + ["gallery"] * 20, None, "no query of the val part has"),
        (["val"] * 40, None, None, ""),
        (["val"] * 40, None, (["cam1"] * 9 + ["cam2"]) * 4, ""),
        (["val"] * 40, None, [""] * 40, ""),
        (["test"] * 40, ["query"] * 40, None, ""),  # there is no validation part
    ],
)
def test_what_can_not_be_measured_is_said_before_training(
    splits: list[str], roles: list[str] | None, groups: list[str] | None, message: str
) -> None:
    classes = 4 if len(splits) == 40 else 1
    given = {"splits": splits, "roles": roles, "groups": groups}
    asked = records(classes, **given)
    if message:
        with pytest.raises(InputError, match=message):
            check_measurable(asked, "val", 4)
    else:
        check_measurable(asked, "val", 4)


@pytest.mark.parametrize("seed", range(20))
def test_what_can_be_measured_equals_a_double_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = Records.create(
        [f"{row}.png" for row in range(6)], rng.choice(["a", "b", "c"], 6).tolist(),
        splits=["val"] * 6, roles=rng.choice(["query", "gallery", "both"], 6).tolist(),
        groups=rng.choice(["", "1", "2"], 6).tolist(),
    )  # fmt: skip
    found = any(
        asked.labels[q] == asked.labels[g] and q != g
        and asked.roles[q] != "gallery" and asked.roles[g] != "query"
        and not (asked.groups[q] and asked.groups[q] == asked.groups[g])
        for q in range(6) for g in range(6)
    )  # fmt: skip
    try:
        check_measurable(asked, "val", 4)
        measured = True
    except InputError:
        measured = False
    assert measured == found
