"""What a run tells at its end: commands to be copied, costs, epochs."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from lookalike.command_line import command
from lookalike.commands import train
from lookalike.training.progress_bar import EpochBar
from lookalike.training.throughput import Throughput

Cli = Callable[..., Any]


def test_a_command_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert command("search", "images=my photo.jpg") == "lookalike search 'images=my photo.jpg'"


def test_without_an_active_environment_the_program_has_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "lookalike").touch()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert command("train") == ".venv/bin/lookalike train"
    (tmp_path / ".venv" / "bin" / "lookalike").unlink()
    assert command("train") == "lookalike train"


@pytest.mark.parametrize(
    ("last", "words"), [(10, "Epoch 1/10"), (-1, "Epoch 1"), (None, "Epoch 1")]
)
def test_epochs_count_from_1(last: int, words: str) -> None:
    bar = EpochBar()
    bar._trainer = SimpleNamespace(max_epochs=last, sanity_checking=False)
    assert bar._get_train_description(0).strip() == words


def test_the_cost_of_a_resumed_run_is_that_of_its_parts() -> None:
    first, second = Throughput(), Throughput()
    first.images, first.seconds, first._began = 640, 8.0, first._began - 20
    second.load_state_dict(first.state_dict())
    assert (second.images, second.seconds) == (640, 8.0)
    assert second.images_per_second == 80
    assert 20 <= second.wall_seconds() < 30


@pytest.mark.slow
def test_a_resumed_run_writes_the_cost_of_the_whole(
    cli: Cli, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    cli("train", *tiny, "trainer.max_epochs=1", "hydra.run.dir=first")
    before = json.loads(Path("first/metrics.json").read_text())
    cli("train", tiny[0], "resume=first", "trainer.max_epochs=2", "hydra.run.dir=second")
    after = json.loads(Path("second/metrics.json").read_text())
    assert after["training_seconds"] >= before["training_seconds"]
    assert after["wall_time_seconds"] > before["wall_time_seconds"]
    said = capsys.readouterr().out
    last = said.rstrip().splitlines()[-1]
    search = shlex.split(last)
    assert search[1] == "search"
    assert Path(search[2].removeprefix("images=")).is_file()
    assert Path(search[3].removeprefix("checkpoint=")).is_file()


@pytest.mark.parametrize("kept", ["start", "best"])
def test_the_better_network_is_named(
    tmp_path: Path, kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """start.ckpt is there if training made the network worse."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{kept}.ckpt").touch()
    best = str(tmp_path / "checkpoints" / "best.ckpt")
    (tmp_path / "metrics.json").write_text(json.dumps({"checkpoint": best}))
    (tmp_path / "split.csv").write_text("path,split\nb/1.jpg,train\na/my 2.jpg,test\n")
    train._say_next(OmegaConf.create({"data": {"root": "photos"}}), tmp_path)
    last = shlex.split(capsys.readouterr().out.splitlines()[-1])
    network = tmp_path / "checkpoints" / f"{kept}.ckpt"
    assert last[1:] == ["search", "images=photos/a/my 2.jpg", f"checkpoint={network}", "k=5"]


def test_images_that_are_none_are_told_before_training(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = tmp_path / "photos"
    shutil.copytree(class_folders, root)
    (root / "class03" / "2.png").write_bytes(b"<html>not found</html>")
    (root / "class09" / "1.png").write_bytes(b"")
    with pytest.raises(SystemExit):
        cli("train", *tiny, f"data.root={root}", "hydra.run.dir=run")
    error = capsys.readouterr().err
    assert "2 of 96 images can't be read" in error
    assert "class03/2.png (no image, or of a format that is not read)" in error
    assert "class09/1.png (no image, or of a format that is not read)" in error
    data = [each for each in tiny if each.startswith("data")]
    assert shlex.join(["prepare", *data, f"data.root={root}"]) in error
    assert not Path("run").exists()


def test_a_report_names_runs_that_are_not_finished(
    cli: Cli, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    cli("train", *tiny, "trainer.max_epochs=1", "hydra.run.dir=runs/one")
    shutil.copytree("runs/one", "runs/two")
    Path("runs/two/metrics.json").unlink()
    cli("report", "runs=runs")
    assert capsys.readouterr().out.count("is not finished") == 1
