"""Searching hyper-parameters: what is proposed, pruned, resumed and handed on."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from lookalike.config import build, config_folder
from lookalike.errors import InputError
from lookalike.studies import tuning as study_module
from lookalike.studies.space import Tuning
from lookalike.studies.trials import print_trials
from lookalike.studies.tuning import done, ranked, reason, tuned

Compose = Callable[..., DictConfig]
SEARCHES = sorted(file.stem for file in (config_folder() / "tune").glob("*.yaml"))
MARGIN = {"loss.margin": {"low": 0.01, "high": 1.0}}


def tuning(**changes: Any) -> Tuning:
    return Tuning(**{"every": [], "space": MARGIN, "folds": (0, 1), "trials": 12} | changes)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Margin and fold of every fit; a fit is best at a margin of 0.6, and fold 1 is harder."""
    seen: list[tuple[float, int]] = []

    def best_score(config: DictConfig) -> float:
        margin, fold = float(config.loss.margin), int(config.data.fold)
        seen.append((margin, fold))
        return 1 - (margin - 0.6) ** 2 - 0.1 * fold

    monkeypatch.setattr(study_module, "best_score", best_score)
    return seen


@pytest.fixture
def triplet(compose: Compose) -> Callable[[Sequence[str]], DictConfig]:
    return lambda overrides: compose("train", "loss=triplet", *overrides)


@pytest.mark.slow
def test_the_default_comes_first_and_what_is_behind_is_pruned(
    calls: list[tuple[float, int]], triplet: Any, tmp_path: Path
) -> None:
    study = tuned(tuning(), triplet, tmp_path)
    assert study.trials[0].params == {"loss.margin": 0.2}
    best = ranked(study)
    assert best[0].value == pytest.approx(max(1 - (m - 0.6) ** 2 - 0.05 for m, _ in calls))
    assert best[0].value > study.trials[0].value
    states = [trial.state for trial in study.trials]
    assert len(states) == 12
    pruned = states.count(TrialState.PRUNED)
    assert pruned > 0
    assert len(calls) == 2 * 12 - pruned


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_killed(
    calls: list[tuple[float, int]], triplet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = study_module.best_score

    def killed(config: DictConfig) -> float:
        if len(calls) == 5:
            raise SystemExit
        return plain(config)

    monkeypatch.setattr(study_module, "best_score", killed)
    with pytest.raises(SystemExit):
        tuned(tuning(), triplet, tmp_path)
    monkeypatch.setattr(study_module, "best_score", plain)
    study = tuned(tuning(trials=4), triplet, tmp_path)
    assert len(done(study)) == 4
    interrupted, again = study.trials[2:4]  # 0 and 1 are whole, 2 was at its second fold
    assert interrupted.state == TrialState.FAIL
    assert again.params == interrupted.params
    before = len(calls)
    assert len(done(tuned(tuning(trials=4), triplet, tmp_path))) == 4
    assert len(calls) == before


def test_another_setting_needs_another_name(
    calls: list[tuple[float, int]], triplet: Any, tmp_path: Path
) -> None:
    tuned(tuning(trials=1), triplet, tmp_path)
    with pytest.raises(InputError, match="name=<another>"):
        tuned(tuning(trials=2), lambda given: triplet(["embedding_size=64", *given]), tmp_path)
    with pytest.raises(InputError, match="name=<another>"):
        tuned(tuning(trials=2, folds=(0, 1, 2)), triplet, tmp_path)
    assert len(calls) == 2


@pytest.mark.slow
def test_values_with_which_training_diverges_are_reported(
    triplet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def diverging(config: DictConfig) -> float:
        if config.loss.margin > 0.5:
            raise ValueError("embeddings hold NaN")
        return float(config.loss.margin)

    monkeypatch.setattr(study_module, "best_score", diverging)
    study = tuned(tuning(trials=8), triplet, tmp_path)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert len(study.trials) == 8
    assert failed
    assert all("NaN" in trial.user_attrs["error"] for trial in failed)
    assert ranked(study)[0].params["loss.margin"] <= 0.5
    print_trials(study)
    said = " ".join(capsys.readouterr().out.split())
    for trial in failed:
        assert f"trial {trial.number} failed: embeddings hold NaN" in said


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(MemoryError(), marks=pytest.mark.slow),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory"), marks=pytest.mark.slow),
        pytest.param(
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_values_that_need_too_much_memory_are_not_asked_again(
    triplet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def large(config: DictConfig) -> float:
        if config.loss.margin > 0.5:
            raise error
        return float(config.loss.margin)

    monkeypatch.setattr(study_module, "best_score", large)
    study = tuned(tuning(trials=8), triplet, tmp_path)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert len(study.trials) == len(done(study)) == 8
    assert failed
    assert all(reason(trial) for trial in failed)


def test_other_errors_end_the_search(
    triplet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: DictConfig) -> float:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(study_module, "best_score", broken)
    with pytest.raises(RuntimeError, match="a mistake"):
        tuned(tuning(), triplet, tmp_path)


@pytest.mark.slow
def test_values_that_end_the_process_are_left_out_in_the_end(
    calls: list[tuple[float, int]], triplet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = study_module.best_score

    def killed(config: DictConfig) -> float:
        if config.loss.margin == 0.2:
            raise SystemExit  # as if by the kernel
        return plain(config)

    monkeypatch.setattr(study_module, "best_score", killed)
    for _ in range(3):
        with pytest.raises(SystemExit):
            tuned(tuning(trials=2), triplet, tmp_path)
    study = tuned(tuning(trials=2), triplet, tmp_path)
    assert len(done(study)) == 2
    assert all(trial.params != {"loss.margin": 0.2} for trial in done(study))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {"loss.margin": {"low": 0.3, "high": 1.0}}}, "outside"),
        ({"space": {"loss.margin": {"low": 2}}}, "no range"),
        ({"space": {"loss.margin": {"low": 0.0, "high": 1.0, "log": True}}}, "no range"),
        ({"space": {}}, "a search needs"),
        ({"reproductions": [0, 1]}, "fresh"),
    ],
)
def test_searches_that_can_not_be(
    changes: dict[str, Any], words: str, triplet: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        tuned(tuning(**changes), triplet, tmp_path)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_starts_from_the_configuration(name: str, compose: Compose) -> None:
    made: Tuning = build(OmegaConf.select(compose("tune", f"tune={name}"), "tune"))
    config = compose("train", *made.every)
    assert made.defaults(config).keys() == made.space.keys()


@pytest.mark.slow
def test_from_the_command_line_to_a_benchmark_of_the_best(
    cli: Any, tiny: tuple[str, ...], tmp_path: Path, capsys: Any
) -> None:
    mine = tmp_path / "mine" / "tune"
    mine.mkdir(parents=True)
    (mine / "tiny.yaml").write_text(
        "defaults: [/base/tune@_here_, _self_]\n"
        "every: [loss=triplet, callbacks=none]\n"
        "space: {loss.margin: {low: 0.1, high: 1.0}}\n"
        "folds: [0]\ntrials: 2\nreproductions: [7]\n"
    )
    cli("tune", "--config-dir", str(mine.parent), "tune=tiny", *tiny)
    said = capsys.readouterr().out
    assert "0, the default" in said
    (folder,) = (tmp_path / "outputs" / "tune").iterdir()
    with (folder / "trials.csv").open() as stream:
        trials = list(csv.DictReader(stream))
    assert [float(trials[0]["loss.margin"]), len(trials)] == [0.2, 2]
    assert "2 trials, 0 more were pruned or failed" in said
    assert not list(folder.rglob("*.ckpt"))
    made = OmegaConf.load(folder / "benchmark" / "tiny_tuned.yaml")
    assert made.reference == "loss.margin=0.2"
    assert list(made.seeds) == [7]
    assert "benchmark=tiny_tuned" in said


def test_journal_is_optunas_own(calls: Any, triplet: Any, tmp_path: Path) -> None:
    """So that its dashboard and its plots can be used."""
    tuned(tuning(trials=1), triplet, tmp_path)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    )
    assert len(optuna.load_study(study_name=None, storage=storage).trials) == 1


@pytest.mark.parametrize(
    "torn",
    [
        *(
            pytest.param(torn, marks=pytest.mark.slow)
            for torn in (b'{"op_code":6,"wor', bytes(40), b"\x00\x00\n", b"[1]\n")
        ),
    ],
)
def test_a_torn_end_of_the_journal_is_left_out(
    torn: bytes,
    calls: list[tuple[float, int]],
    triplet: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = [trial.params for trial in tuned(tuning(trials=2), triplet, tmp_path).trials]
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    (tmp_path / "study.journal.lock").symlink_to(journal)  # of the process that was killed
    after = tuned(tuning(trials=3), triplet, tmp_path)
    assert [trial.params for trial in after.trials[:2]] == before
    assert len(done(after)) == 3
    assert journal.read_bytes().startswith(whole)
    assert "torn end" in caplog.text
    caplog.clear()
    assert len(done(tuned(tuning(trials=3), triplet, tmp_path))) == 3
    assert "torn end" not in caplog.text


@pytest.mark.slow
def test_a_journal_that_is_torn_inside_is_not_used(
    calls: list[tuple[float, int]], triplet: Any, tmp_path: Path
) -> None:
    tuned(tuning(trials=2), triplet, tmp_path)
    journal = tmp_path / "study.journal"
    first, second, *others = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, second[:9] + b"\n", *others]))
    with pytest.raises(InputError, match=r"study\.journal is damaged at line 2.*name="):
        tuned(tuning(trials=2), triplet, tmp_path)
    assert len(journal.read_bytes().splitlines()) == 2 + len(others)
