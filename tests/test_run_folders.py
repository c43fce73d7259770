"""The folder of a run: one process has it for itself, and a start that fails leaves none."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lookalike.commands.folders import remove_start
from lookalike.training import run as run_module

Cli = Callable[..., Any]
SAME_TIME = "hydra.run.dir='${paths.outputs}/${now:%Y}_run'"  # of all that start this year


@pytest.fixture
def short(tiny: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny, "evaluation.before_training=false")


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.slow
def test_runs_of_one_moment_get_folders_of_their_own(cli: Cli, short: tuple[str, ...]) -> None:
    for seed in (1, 2, 3):
        cli("train", *short, SAME_TIME, f"seed={seed}")
    names = inside(Path("outputs"))
    assert len(names) == 3
    assert [name.partition("_run")[2] for name in names] == ["", "_2", "_3"]
    for seed, name in enumerate(names, 1):
        folder = Path("outputs") / name
        assert f"seed: {seed}\n" in (folder / ".hydra" / "config.yaml").read_text()
        kept = json.loads((folder / "metrics.json").read_text())["checkpoint"]
        assert Path(kept) == folder / "checkpoints" / "best.ckpt"


@pytest.mark.slow
def test_sweeps_of_one_moment_get_folders_of_their_own(
    cli: Cli, short: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[tuple[Any, ...]] = []
    monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
    place = "hydra.sweep.dir='${paths.outputs}/${now:%Y} it\\'s'"
    for _ in range(2):
        cli("train", "-m", *short, place, "seed=1")
    with pytest.raises(SystemExit):
        cli("train", "-m", *short, place, "data.fold=99", "seed=1")
    for function, *arguments in reversed(at_exit):
        function(*arguments)
    names = inside(Path("outputs"))
    assert [name.partition("it's")[2] for name in names] == ["", "_2"]  # the third had no runs
    for name in names:
        assert len(list(Path("outputs", name).glob("*/metrics.json"))) == 1


@pytest.mark.slow
def test_processes_of_one_moment_get_folders_of_their_own(
    short: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "lookalike", "train", *short, SAME_TIME]
    running = [subprocess.Popen(command, cwd=tmp_path) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(list(tmp_path.glob("outputs/*/metrics.json"))) == 3


@pytest.mark.parametrize(
    "mistake",
    [
        "loss.margn=1", "data.root=nowhere", "resume=nothing.ckpt",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (
                "data.fold=99", "trainer.max_epochs=-1", "checkpoint.optimizer=some",
                "embedding_size=0", "name='${nothing}'",
            )
        ),
    ],
)  # fmt: skip
def test_a_start_that_fails_leaves_no_folder(
    mistake: str, cli: Cli, short: tuple[str, ...], tmp_path: Path
) -> None:
    kept = [each for each in short if not each.startswith(mistake.partition("=")[0])]
    with pytest.raises((SystemExit, RuntimeError)):
        cli("train", *kept, mistake)
    assert inside(Path("outputs/train")) == []
    with pytest.raises((SystemExit, RuntimeError)):
        cli("train", *kept, mistake, "hydra.run.dir=mine")
    assert not Path("mine").exists()


@pytest.mark.parametrize("verb", ["evaluate", "classify", "search", "report", "prepare"])
def test_no_verb_that_fails_leaves_a_folder(
    verb: str, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its error is one line, without Hydra's list of all overrides above it."""
    given = {
        "evaluate": ["checkpoint=nothing.ckpt"], "report": ["runs=nothing"],
        "classify": ["images=nothing"], "prepare": ["data=folder", "data.root=nothing"],
        "search": ["images=nothing", "gallery=nothing", "checkpoint=nothing.ckpt"],
    }  # fmt: skip
    with pytest.raises(SystemExit):
        cli(verb, *given[verb])
    assert inside(Path("outputs") / verb) == []
    told = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(told) == 1
    assert told[0].startswith(f"lookalike {verb}: ")


def test_what_lay_in_a_folder_before_is_kept(cli: Cli, short: tuple[str, ...]) -> None:
    Path("mine").mkdir()
    Path("mine/split.csv").write_text("of the user")
    with pytest.raises(SystemExit):
        cli("train", *short, "data.fold=99", "hydra.run.dir=mine")
    assert Path("mine/split.csv").read_text() == "of the user"


def test_what_a_run_wrote_before_it_failed_is_kept(tmp_path: Path) -> None:
    for name in ("metrics.csv", "checkpoints/last.ckpt", "error.txt"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
        (tmp_path / "run" / "train.log").touch()
        remove_start(tmp_path / "run")
        assert (tmp_path / "run" / name).is_file()
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / "checkpoints").rmdir()
    remove_start(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_in_which_another_process_trains_is_refused(
    cli: Cli, short: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").mkdir()
    with FileLock("run/.lock"), pytest.raises(SystemExit):
        cli("train", *short, "hydra.run.dir=run")
    assert "another process is training in" in capsys.readouterr().err
    cli("train", *short, "hydra.run.dir=run")
    assert Path("run/metrics.json").is_file()


def test_scores_are_printed_before_they_are_written(
    cli: Cli,
    short: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def blocked(file: Path, *_: Any) -> None:
        raise OSError(28, "No space left on device", str(file))

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_metrics", blocked)
        with pytest.raises(SystemExit):
            cli("train", *short, "hydra.run.dir=run")
    shown = capsys.readouterr()
    assert "recall@1" in shown.out
    assert "can't write run/metrics.json: No space left on device" in shown.err
    assert Path("run/checkpoints/best.ckpt").is_file()
    monkeypatch.setattr("lookalike.commands.evaluate.write_metrics", blocked)
    with pytest.raises(SystemExit):
        cli("evaluate", "checkpoint=run/checkpoints/best.ckpt")
    assert "recall@1" in capsys.readouterr().out
