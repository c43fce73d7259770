"""Jobs of Slurm: what starts them again is played by the test, with a `scontrol` of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from processes import one_thread

Cli = Callable[..., Any]
Tiny = tuple[str, ...]

LONG = ("data.sampler.batches_per_epoch=40", "trainer.max_epochs=2", "data.num_workers=2")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def job(tmp_path: Path) -> Start:
    """Starts a command in a job that has been started again so many times."""
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\necho "$@" >> asked.txt\n')
    scontrol.chmod(0o755)

    def start(restarts: int, *arguments: str, number: str = "7") -> "subprocess.Popen[str]":
        environment = one_thread(
            PATH=f"{scontrol.parent}:{os.environ['PATH']}", SLURM_JOB_ID=number, SLURM_NTASKS="1",
            SLURM_JOB_NAME="job", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0",
            SLURM_RESTART_COUNT=str(restarts),
        )  # fmt: skip
        command = [sys.executable, "-m", "lookalike", *arguments]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def when(there: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    while not there():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("signum", "code", "named"),
    [(signal.SIGUSR1, 138, ()), (signal.SIGTERM, 143, ("hydra.run.dir=run",))],
)
@pytest.mark.slow
def test_a_requeued_job_goes_on_with_its_run(
    job: Start,
    tiny: Tiny,
    tmp_path: Path,
    signum: int,
    code: int,
    named: tuple[str, ...],
) -> None:
    own = ("train", *tiny, *LONG, "evaluation.before_training=false", f"paths.outputs={tmp_path}")
    whole = job(0, *own, "hydra.run.dir=whole", number="6")
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    begun = job(0, *own, *named)
    pattern = "run/checkpoints/last.ckpt" if named else "train/*/checkpoints/last.ckpt"
    when(lambda: any(tmp_path.glob(pattern)), begun)
    begun.send_signal(signum)
    said, _ = begun.communicate(timeout=120)
    assert begun.returncode == code, said
    asked = tmp_path / "asked.txt"
    assert (asked.read_text() if asked.exists() else "") == "requeue 7\n" * (code == 138)
    assert ("scontrol requeue 7: it goes on with the same command" in said) == (code == 138)
    for restarts, told in ((1, "resumed after"), (2, "is finished already")):
        again = job(restarts, *own, *named)
        said, _ = again.communicate(timeout=300)
        assert again.returncode == 0, said
        assert told in said
    (checkpoint,) = tmp_path.glob(pattern)
    one, other = weights(tmp_path / "whole"), weights(checkpoint.parents[1])
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not list(tmp_path.glob("**/hpc_ckpt*"))


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was(
    cli: Cli, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    cli("train", "-m", *tiny, "seed=0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    cli("train", "-m", *tiny, "seed=0")
    assert "is finished already" in capsys.readouterr().out
    assert len(list(Path("outputs/train").iterdir())) == 1
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    cli("train", "-m", *tiny, "seed=0")
    assert len(list(Path("outputs/train").iterdir())) == 2


def test_checkpoints_of_another_program_beside_it_do_not_count(cli: Cli, tiny: Tiny) -> None:
    """Lightning goes on with them where it finds them."""
    Path("hpc_ckpt_3.ckpt").write_bytes(b"of another program")
    cli("train", *tiny, "hydra.run.dir=run", "evaluation.before_training=false")
    assert Path("run/metrics.json").is_file()
