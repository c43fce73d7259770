"""Benchmarks: what is run, what is not run again, what is said of it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from scipy import stats

import lookalike.studies.runs as runs_module
from lookalike.config import build, check_arguments, config_folder, gather_overrides
from lookalike.errors import InputError
from lookalike.reports.cell_table import explained, number_table, run_table, score_table
from lookalike.reports.cells import Line, Setting, best_first, compare
from lookalike.reports.gains import gains, worse_than_start
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import Table, comma_separated, latex, markdown, print_table
from lookalike.studies.cells import Benchmark
from lookalike.studies.runs import Run, planned_runs, run_cell
from lookalike.training.identity import fingerprint

Compose = Callable[..., DictConfig]
BENCHMARKS = sorted(file.stem for file in (config_folder() / "benchmark").glob("*.yaml"))


def benchmark(**changes: Any) -> Benchmark:
    given: dict[str, Any] = {
        "every": ["miner=none"],
        "axes": [["loss=triplet", "loss=contrastive"], ["embedding_size=4", "embedding_size=8"]],
        "seeds": [0, 1],
        "folds": [0, 1],
    }
    return Benchmark(**(given | changes))


def test_cells_are_a_product_and_starting_points_are_shared(
    compose: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    runs = planned_runs(benchmark(), list(tiny), lambda o: compose("train", *o), tmp_path)
    assert len(runs) == (4 + 2) * 2 * 2
    labels = [run.label for run in runs if (run.seed, run.fold) == (1, 0)]
    assert labels == [
        "embedding_size=4 before training",
        "embedding_size=8 before training",
        "loss=triplet embedding_size=4",
        "loss=triplet embedding_size=8",
        "loss=contrastive embedding_size=4",
        "loss=contrastive embedding_size=8",
    ]
    assert len({run.folder for run in runs}) == len(runs)
    assert runs[0].overrides[-3:] == ["trainer.max_epochs=0", "data.fold=0", "seed=0"]


@pytest.mark.slow
def test_on_wandb_a_benchmark_is_a_group_and_a_cell_a_job_type(
    compose: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    def told(*more: str) -> set[tuple[str, str]]:
        every = [*tiny, "logger=wandb", *more]
        runs = planned_runs(
            benchmark(), every, lambda o: compose("train", *o), tmp_path / "losses" / "cells"
        )
        configs = [compose("train", *run.overrides).logger.wandb for run in runs if run.trained]
        return {(config.group, config.job_type) for config in configs}

    cells = [f"loss={a} embedding_size={b}" for a in ("triplet", "contrastive") for b in (4, 8)]
    assert told() == {("losses", cell) for cell in cells}
    assert told("logger.wandb.group=mine") == {("mine", cell) for cell in cells}


def test_an_automatic_precision_is_the_one_it_stands_for(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto, named = (
        compose("train", "trainer=cpu", f"trainer.precision={name}") for name in ("auto", "32-true")
    )
    monkeypatch.setattr("lookalike.training.identity.best_precision", lambda _: "32-true")
    assert fingerprint(auto) == fingerprint(named)
    monkeypatch.setattr("lookalike.training.identity.best_precision", lambda _: "bf16-mixed")
    assert fingerprint(auto) != fingerprint(named)
    assert auto.trainer.precision == "auto"


def test_a_fingerprint_is_of_what_is_measured(compose: Compose, tiny: tuple[str, ...]) -> None:
    def of(*overrides: str) -> str:
        return fingerprint(compose("train", *tiny, *overrides))

    same = [[], ["name=other"], ["paths.outputs=x", "paths.cache=y"], ["logger=tensorboard"]]
    other = [["seed=1"], ["data.fold=1"], ["loss=triplet"], ["learning_rate.head=1e-5"]]
    assert len({of(*overrides) for overrides in same}) == 1
    assert len({of(*overrides) for overrides in [same[0], *other]}) == 5


def test_states(tmp_path: Path) -> None:
    run = Run("a", True, 0, 0, [], tmp_path / "cell")
    assert run.state() == "left"
    run.folder.mkdir()
    (run.folder / "metrics.json").write_text('{"test/map": 0.')  # cut off
    assert run.state() == "left"
    (run.folder / "error.txt").write_text("Traceback")
    assert run.state() == "failed"
    with FileLock(run.folder / ".lock"):
        assert run.state() == "running"
    (run.folder / "metrics.json").write_text('{"test/map": 0.5}')
    assert run.state() == "done"


def test_one_run_fails_alone_and_no_run_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def train(config: DictConfig) -> float:
        done.append(config.paths.run)
        raise ZeroDivisionError("no classes at all")

    monkeypatch.setattr(runs_module, "train", train)
    config = OmegaConf.create({"paths": {"run": str(tmp_path)}, "trainer": {"max_epochs": 1}})
    assert np.isnan(run_cell(config))
    assert "ZeroDivisionError: no classes at all" in (tmp_path / "error.txt").read_text()
    with FileLock(tmp_path / ".lock"):  # as another process would
        assert np.isnan(run_cell(config))
    (tmp_path / "metrics.json").write_text("{}")
    run_cell(config)
    assert len(done) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": [[]]}, "needs axes with entries"),
        ({"reference": "loss=triplet embedding_size=5"}, "Did you mean loss=triplet emb"),
        ({"metrics": ["recall_at_3"]}, "recall_at_3 are not measured"),
        ({"every": ["trainer.devices=2"]}, "runs on one device"),
        ({"every": ["+head.whitening=1"]}, "takes no 'whitening'"),
    ],
)
def test_what_does_not_fit_is_found_before_any_run(
    changes: dict[str, Any],
    message: str,
    compose: Compose,
    tiny: tuple[str, ...],
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=message):
        planned_runs(benchmark(**changes), list(tiny), lambda o: compose("train", *o), tmp_path)


def test_overrides_of_train_are_gathered() -> None:
    own = ["benchmark=smoke", "status=true", "hydra/launcher=joblib", "--config-dir", "mine"]
    others = ["trainer=gpu", "+loss.x='a b'", "~images_per_class", "data.source.x=1"]
    assert gather_overrides("benchmark", own) == own
    more, *kept = gather_overrides("benchmark", [*others[:2], *own, *others[2:]])
    assert kept == own
    assert OverridesParser.create().parse_override(more).value() == others


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_composes(name: str, compose: Compose) -> None:
    spec = build(compose("benchmark", f"benchmark={name}").benchmark)
    assert len(spec.seeds) >= 2
    for cell in spec.cells():
        config = compose("train", *spec.every, *(each for e in cell for each in e.split()))
        check_arguments(config)
        assert "progress" not in config.callbacks


def saved(seed: int, fold: int, trained: bool = True, **metrics: float) -> SavedRun:
    config = {"seed": seed, "data.fold": fold, "trainer.max_epochs": int(trained)}
    scores = {f"test/{name}": value for name, value in metrics.items()}
    return SavedRun(Path("x"), scores | {"wall_time_seconds": 60.0}, {}, config, {})


def setting(name: str, scores: dict[tuple[int, int], float], **beside: str) -> Setting:
    """A setting with test/map by (seed, fold)."""
    runs = tuple(saved(seed, f, name != "start", map=v) for (seed, f), v in scores.items())
    return Setting({}, runs, name, beside)


def lines_of(scores: dict[str, list[float]], reference: str | None = None) -> list[Line]:
    """Of scores by seed, on one fold."""
    settings = [
        setting(name, {(seed, 0): value for seed, value in enumerate(values)})
        for name, values in scores.items()
    ]
    return best_first(compare(settings, ["test/map"], reference), ["test/map"])


SCORES = {
    "start": [0.1, 0.1, 0.1],
    "bad_loss": [0.50, 0.51, 0.52],
    "good": [0.80, 0.82, 0.81],
    "as good": [0.81, 0.80, 0.80],
}


def test_the_table() -> None:
    lines = lines_of(SCORES)
    assert [line.setting.label for line in lines] == ["start", "good", "as good", "bad_loss"]
    text = markdown(score_table(lines, ["A note."])).splitlines()
    assert text[0] == "|  | test MAP | runs | minutes a run |"
    assert text[1] == "| --- | ---: | ---: | ---: |"
    assert text[2] == "| start | 0.1000 ± 0.0000 | 3 | 1.0 |"
    assert text[3] == "| good | 0.8100 ± 0.0248 ≈ | 3 | 1.0 |"
    assert text[4].split(" | ")[1].endswith("≈")
    assert "≈" not in text[2] + text[5]
    assert text[-1] == "A note."
    written = latex(score_table(lines, ["A note."]))
    assert r"bad\_loss & 0.5100 $\pm$ 0.0248 & 3 & 1.0 \\" in written
    assert written.startswith("% A note.\n\\begin{tabular}{lrrr}")


def test_numbers_in_full() -> None:
    rows = list(csv.DictReader(comma_separated(number_table(lines_of(SCORES))).splitlines()))
    low, high = stats.t.interval(0.95, 2, 0.81, 0.01 / np.sqrt(3))
    found = {key: float(rows[1][f"test/map{key}"]) for key in ("", "/half_width", "/lowest")}
    assert found == pytest.approx({"": 0.81, "/half_width": (high - low) / 2, "/lowest": 0.8})
    assert [row["test/map/seeds"] for row in rows] == ["3"] * 4
    assert rows[0]["test/map/p"] == ""  # what was not trained is not compared
    assert float(rows[3]["test/map/p"]) < 0.05
    runs = list(csv.DictReader(comma_separated(run_table(
        [line.setting for line in lines_of(SCORES)], ["test/map", "test/unheard_of"]
    )).splitlines()))  # fmt: skip
    assert len(runs) == 12
    assert list(runs[0]) == ["cell", "seed", "data.fold", "test/map", "wall_time_seconds", "folder"]
    assert [float(run["test/map"]) for run in runs[9:]] == SCORES["bad_loss"]


def test_two_seeds_have_a_range_and_one_has_its_value() -> None:
    lines = lines_of({"two": [0.6, 0.7334], "one": [0.5]})
    found = [line.scores["test/map"].interval for line in lines]
    assert found == ["0.6667 (0.6000 - 0.7334)", "0.5000"]
    (unmeasured,) = compare([lines[0].setting], ["test/unheard_of"])
    assert str(unmeasured.scores["test/unheard_of"]) == "-"
    assert np.isnan(lines[0].scores["test/map"].half_width)
    notes = " ".join(explained(lines))
    assert "t-interval" not in notes
    assert "the lowest and the highest of two seeds" in notes


def test_one_seed_is_never_significantly_different() -> None:
    lines = lines_of({"one": [0.5], "three": [0.6, 0.7, 0.8]})
    assert [line.setting.label for line in lines] == ["three", "one"]
    assert str(lines[1].scores["test/map"]) == "0.5000 ≈"
    assert lines[1].scores["test/map"].p == 1
    alone = lines_of({"one": [0.5], "other": [0.9]})  # nothing is repeated: nothing is tested
    assert [str(line.scores["test/map"]) for line in alone] == ["0.9000", "0.5000"]
    assert explained(alone) == []


def test_a_reference_is_what_the_others_are_compared_with() -> None:
    lines = lines_of(SCORES, "bad_loss")
    marked = [line.setting.label for line in lines if "≈" in str(line.scores["test/map"])]
    assert marked == ["bad_loss"]
    assert "from bad_loss (p > 0.05)" in " ".join(explained(lines, "bad_loss"))
    missing = lines_of(SCORES, "not finished")
    assert all(line.scores["test/map"].p is None for line in missing)


def test_only_folds_that_all_settings_have_are_counted() -> None:
    whole = setting("whole", {(s, f): s + 10 * f for s in range(3) for f in (0, 1)})
    part = setting("part", {(0, 0): 2.0, (1, 0): 4.0, (2, 0): 9.0, (3, 1): 100.0})
    start = setting("start", {(0, 1): 7.0})
    both = compare([whole, part, start], ["test/map"])
    assert [line.scores["test/map"].mean for line in both[:2]] == [1.0, 5.0]
    assert both[2].scores["test/map"].interval == "-"  # a starting point changes no rule
    assert "Counted are the folds that all settings have: 0 of 2." in explained(both)
    (alone,) = compare([whole], ["test/map"])
    assert alone.scores["test/map"].mean == 6.0
    other = setting("other", {(s, 5): 0.1 * s for s in range(3)})
    apart = compare([whole, other], ["test/map"])
    assert [line.scores["test/map"].mean for line in apart] == pytest.approx([6.0, 0.1])
    assert all(line.scores["test/map"].p is None for line in apart)
    assert "nothing is tested" in " ".join(explained(apart))


def test_a_seed_with_a_missing_fold_is_left_out_by_a_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = {(s, f): float(rng.random()) for s in range(4) for f in range(3)}
        kept = {key: v for key, v in scores.items() if key[0] == 0 or rng.random() < 0.8}
        complete = [s for s in range(4) if all((s, f) in kept for f in range(3))]
        expected = [np.mean([kept[s, f] for f in range(3)]) for s in complete]
        (line,) = compare([setting("a", kept)], ["test/map"])
        found = line.scores["test/map"]
        assert (found.seeds, found.mean) == (len(complete), pytest.approx(np.mean(expected)))
        assert found.lowest == pytest.approx(min(expected))


def test_a_loss_is_better_the_lower_it_is() -> None:
    settings = [
        Setting({}, tuple(saved(s, 0, loss=v + s / 100) for s in range(3)), name)
        for name, v in (("high", 2.0), ("low", 1.0))
    ]
    lines = best_first(compare(settings, ["test/loss"]), ["test/loss"])
    assert [line.setting.label for line in lines] == ["low", "high"]
    assert "≈" in str(lines[0].scores["test/loss"])
    assert "≈" not in str(lines[1].scores["test/loss"])


def test_what_training_gained_is_told() -> None:
    rng = np.random.default_rng(3)
    names = ("start", "better", "no better", "worse", "one seed")
    means = dict(zip(names, (0.5, 0.7, 0.5, 0.3, 0.9), strict=True))
    scores = {
        name: (mean + rng.normal(0, 0.01, 1 if name == "one seed" else 5)).tolist()
        for name, mean in means.items()
    }
    lines = lines_of(scores)
    expected = {"better": True, "no better": False, "worse": False, "one seed": False}
    assert gains(lines, "test/map") == expected
    three = [stats.ttest_rel(scores[name], scores["start"]).pvalue for name in names[1:4]]
    assert sorted(three)[1] * 3 < 0.05 < max(three)  # what the rule says by hand
    assert "1 of 4 settings; not" in " ".join(explained(lines))
    assert gains(lines[1:], "test/map") == {}  # nothing was measured before training
    assert gains(lines_of({"start": [0.1], "a": [0.9]}), "test/map") == {}


def test_published_values_stand_beside() -> None:
    settings = [setting("a", {(0, 0): 0.5}, published="0.9 †"), setting("b", {(0, 0): 0.4})]
    table = score_table(compare(settings, ["test/map"]))
    assert list(table.head[2:]) == ["published", "runs", "minutes a run"]
    assert [line[2] for line in table.lines] == ["0.9 †", ""]


@pytest.mark.parametrize("label", ["loss=softmax_triplet", "loss=softmax miner=none" * 4])
def test_a_narrow_screen_shows_every_column(
    label: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("map_at_r", "recall_at_1", "r_precision")
    runs = tuple(saved(seed, 0, **dict.fromkeys(names, 0.5)) for seed in range(3))
    lines = compare([Setting({}, runs, label)], [f"test/{name}" for name in names])
    print_table(score_table(lines))
    text = capsys.readouterr().out
    assert {len(line) for line in text.splitlines()} == {80}
    assert " 1.0 │" in text


def test_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table(["cell", "[red]"], [["logger=[wandb]", "1"]], notes=["[bold] note"]))
    text = capsys.readouterr().out
    assert all(word in text for word in ("logger=[wandb]", "[red]", "[bold] note"))


def command(*arguments: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "lookalike", "benchmark", f"--config-dir={folder}", *arguments]


@pytest.fixture
def drawn(tmp_path: Path, tiny: tuple[str, ...]) -> list[str]:
    """A benchmark of two losses and a broken cell, on few drawn flowers."""
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    spec = {
        "_target_": "lookalike.studies.cells.Benchmark",
        "every": ["data=drawn", "callbacks=none"],
        "axes": [["loss=triplet", "loss=contrastive", "loss=triplet loss.margin=wide"]],
        "folds": [0, 1],
        "seeds": [0, 1],
        "metrics": ["map_at_r"],
    }
    (tmp_path / "conf" / "benchmark" / "drawn.yaml").write_text(json.dumps(spec))
    others = [o for o in tiny if not o.startswith(("data=", "data.root="))]
    small = ["data.source.species=12", "data.source.images_per_species=4", "data.source.size=24"]
    more = ["data.folds=2", f"paths.cache={tmp_path / 'cache'}", "backbone.image_size=16"]
    return command("benchmark=drawn", *others, *small, *more, folder=tmp_path / "conf")


def finished(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob("**/cells/*/metrics.json")}


def table(folder: Path) -> list[dict[str, str]]:
    text = (folder / "outputs" / "benchmark" / "drawn" / "results.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    return [{k: v for k, v in row.items() if k != "minutes_a_run"} for row in rows]


def results_of(folder: Path) -> str:
    return (folder / "outputs" / "benchmark" / "drawn" / "results.md").read_text()


@pytest.mark.slow
def test_killed_and_started_again(drawn: list[str], tmp_path: Path) -> None:
    """The same table as without interruption, and no finished run is done twice."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    whole.mkdir()
    process = subprocess.Popen(drawn, cwd=cut, stdout=subprocess.DEVNULL, start_new_session=True)
    while len(finished(cut)) < 3 and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = finished(cut)
    assert 3 <= len(before) < 12
    told = subprocess.run([*drawn, "status=true"], cwd=cut, capture_output=True, text=True)
    assert f"16 runs: {len(before)} done, 0 running" in told.stdout, told.stderr
    assert "minutes for the rest" in told.stdout
    for folder in (cut, whole):
        ended = subprocess.run(drawn, cwd=folder, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert "4 of 16 runs are missing" in (" ".join(ended.stdout.split()))
        assert len(finished(folder)) == 12  # 2 losses and a starting point
    assert {file: finished(cut)[file] for file in before} == before
    assert table(cut) == table(whole)
    assert "Command: lookalike benchmark benchmark=drawn" in results_of(cut)
    assert f"--config-dir={tmp_path / 'conf'}" in results_of(cut)
    assert [row["runs"] for row in table(cut)] == ["4", "4", "4"]
    broken = list(cut.glob("**/cells/loss-triplet-loss.margin*/error.txt"))
    assert len(broken) == 4
    assert "Traceback" in broken[0].read_text()
    times = finished(cut)
    again = subprocess.run(drawn, cwd=cut, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert finished(cut) == times


def test_settings_that_training_made_worse_are_marked() -> None:
    """By the metric that chose the checkpoints, against what each run or the start measured."""

    def run(after: float, before: float | None, epochs: int = 2, **config: object) -> SavedRun:
        metrics = {"test/map": 0.5, "val/accuracy": after, "epoch": epochs}
        if before is not None:
            metrics["epoch_0/val/accuracy"] = before
        settings = {"seed": 0, "data.fold": 0, "evaluation.monitor": "accuracy", **config}
        return SavedRun(Path("x"), metrics, {}, settings, {})

    start = Setting({}, (run(0.7, None, 0),), "before training")
    fell = Setting({}, (run(0.6, None), run(0.75, 0.8)), "fell")
    rose = Setting({}, (run(0.8, None),), "rose")
    lines = compare([start, fell, rose], ["test/map"])
    assert worse_than_start(lines) == {"fell"}
    assert worse_than_start(lines[1:]) == {"fell"}  # one of its runs knows its own start
    assert worse_than_start(compare([rose], ["test/map"])) == set()
    assert [row[0] for row in score_table(lines).lines] == ["before training", "fell ↓", "rose"]
    assert any(note.startswith("↓") for note in explained(lines))
    assert r"$\downarrow$" in latex(score_table(lines))
