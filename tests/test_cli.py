"""The command line from outside: help, sweeps, own configurations, the wheel."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import CHECKOUT
from lookalike.__main__ import VERBS
from lookalike.config import config_folder


def lookalike(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lookalike", *arguments],
        cwd=folder,
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_and_version_import_nothing_heavy(tmp_path: Path) -> None:
    shown = lookalike("--help", folder=tmp_path)
    assert shown.returncode == 0
    assert all(verb in shown.stdout for verb in VERBS)
    assert lookalike("--version", folder=tmp_path).stdout.startswith("lookalike 0.")
    code = "import sys, lookalike.__main__; assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_verb_has_a_module_and_a_configuration() -> None:
    for verb in VERBS:
        assert (CHECKOUT / "src" / "lookalike" / "commands" / f"{verb}.py").is_file()
        assert (config_folder() / f"{verb}.yaml").is_file()


def test_a_misspelt_verb(tmp_path: Path) -> None:
    shown = lookalike("trian", folder=tmp_path)
    assert shown.returncode == 1
    assert "Did you mean train?" in shown.stderr


@pytest.mark.slow  # test_own_parts does the same by the documentation
def test_a_user_s_own_configurations(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """--config-dir adds to every group, here a loss and an experiment."""
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "wide.yaml").write_text(
        "_target_: pytorch_metric_learning.losses.TripletMarginLoss\nmargin: 0.7\n"
    )
    (tmp_path / "mine" / "experiment").mkdir()
    (tmp_path / "mine" / "experiment" / "first.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: wide\nembedding_size: 5\n"
    )
    others = [override for override in tiny if not override.startswith("embedding_size")]
    shown = lookalike(
        "train", "--config-dir", "mine", "experiment=first", *others, "--cfg", "job",
        folder=tmp_path,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "margin: 0.7" in shown.stdout
    assert "embedding_size: 5" in shown.stdout


@pytest.mark.slow
def test_a_sweep_leaves_a_folder_for_every_job(
    cli: Callable[..., Any],
    tiny: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cli("train", "-m", *tiny, "loss=triplet,contrastive,softmax_triplet", "seed=0,1")
    shown = capfd.readouterr()
    folders = sorted(path.parent for path in tmp_path.glob("outputs/train/*_sweep/*/metrics.json"))
    assert [folder.name.split("_", 1)[1] for folder in folders] == [
        f"loss-{loss}_seed{seed}"
        for loss in ("triplet", "contrastive", "softmax_triplet")
        for seed in (0, 1)
    ]
    for folder in folders:
        assert "val/map_at_r" in json.loads((folder / "metrics.json").read_text())
        assert (folder / ".hydra" / "overrides.yaml").is_file()
        assert (folder / "checkpoints" / "best.ckpt").is_file()
    summary = (folders[0].parent / "summary.md").read_text()
    rows = [line.split(" | ") for line in summary.splitlines() if line.startswith("| loss=")]
    assert {row[0].removeprefix("| ") for row in rows} == {
        "loss=triplet, miner=triplet_margin", "loss=contrastive, miner=none",
        "loss=softmax_triplet, miner=batch_hard",
    }  # fmt: skip
    assert [row[3] for row in rows] == ["2", "2", "2"]
    means = [float(row[1].split()[0]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert " - " in rows[0][1]  # two seeds have a range and no interval
    assert "loss=" in shown.out
    assert "raised" not in shown.out + shown.err  # Hydra hides a callback's errors


@pytest.mark.slow
def test_a_sweep_with_a_failed_run_ends_with_a_table_too(
    cli: Callable[..., Any],
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_exit: list[tuple[Any, ...]] = []
    monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
    with pytest.raises(SystemExit):
        cli("train", "-m", *tiny, "data.fold=99,0", "loss=triplet")
    assert not list(tmp_path.glob("outputs/train/*_sweep/summary.md"))
    for function, *arguments in at_exit:
        function(*arguments)
    (summary,) = tmp_path.glob("outputs/train/*_sweep/summary.md")
    assert "| every run |" in summary.read_text()


@pytest.mark.slow
def test_wandb_offline_and_tensorboard_together(tiny: tuple[str, ...], tmp_path: Path) -> None:
    shown = lookalike("train", *tiny, "logger=[wandb,tensorboard]", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    (folder,) = tmp_path.glob("outputs/train/*")
    assert list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert list(folder.glob("tensorboard/events.out.tfevents.*"))
    assert (folder / "metrics.csv").is_file()


@pytest.mark.slow
def test_the_wheel_carries_the_configuration(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--installer", "uv", "--wheel", "-o", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    expected = {
        f"lookalike/conf/{file.relative_to(config_folder())}"
        for file in config_folder().rglob("*.yaml")
    }
    assert expected <= set(names)
    assert "lookalike/__main__.py" in names
    assert not [name for name in names if name.startswith(("tests/", "src/"))]
