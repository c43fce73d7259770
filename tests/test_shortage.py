"""Too little memory, lost reading processes, leaks: what happens, and what the user is told."""

import gc
import os
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Compose
from lookalike.commands.shortage import explained_shortage
from lookalike.errors import InputError
from lookalike.memory import is_out_of_memory
from lookalike.training.experiment import Experiment
from lookalike.training.learner import MetricLearner

Cli = Callable[..., Any]
OF_CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
OF_GPU = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 78.00 GiB"


@pytest.mark.parametrize(
    "error",
    [RuntimeError(OF_CPU), torch.OutOfMemoryError(OF_GPU), MemoryError()],
    ids=["cpu", "gpu", "python"],
)
def test_out_of_memory_names_what_to_lower(
    error: Exception,
    cli: Cli,
    tiny: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*given: Any) -> None:
        raise error

    monkeypatch.setattr(MetricLearner, "training_step", fail)
    with pytest.raises(SystemExit) as stop:
        cli("train", *tiny, "evaluation.before_training=false", "hydra.run.dir=run")
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    for part in ("data.batch_size=8", "crop_size=", "backbone.image_size=", "Not enough memory ("):
        assert part in said
    assert "lower data.batch_size or data.eval_batch_size or crop_size" in said
    assert "trainer.accumulate_grad_batches=2" in said
    assert "chunk_size=4" in said


def test_memory_that_can_not_be_had_is_recognised() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(real.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_other_errors_stay_as_they_are(compose: Compose) -> None:
    with pytest.raises(RuntimeError, match="a bug"), explained_shortage(compose("search")):
        raise RuntimeError("a bug")
    with (
        pytest.raises(InputError, match=r"This run has batch_size=64: lower batch_size\.$"),
        explained_shortage(compose("search")),
    ):
        raise RuntimeError(OF_CPU)


def test_a_reading_process_that_is_killed_ends_the_run(
    cli: Cli, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    step = MetricLearner.training_step

    def kill(self: Any, batch: Any, batch_idx: int) -> Any:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        time.sleep(0.5)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MetricLearner, "training_step", kill)
    started = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        cli("train", *tiny, "data.num_workers=1", "evaluation.before_training=false",
            "data.sampler.batches_per_epoch=50", "hydra.run.dir=run")  # fmt: skip
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert "a process that reads images was lost" in said
    assert "Set data.num_workers=0" in said
    assert time.monotonic() - started < 60


def held(folder: Path) -> dict[str, int]:
    """What this process holds, and the run's folder."""
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    files = [file for file in folder.rglob("*") if file.is_file()]
    gc.collect()
    return {
        "kibibytes": int(resident.split()[1]),
        "handles": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "files": len(files),
        "disk": sum(file.stat().st_size for file in files if file.suffix == ".ckpt"),
    }


@pytest.mark.slow
def test_two_hundred_epochs_hold_no_more_than_fifty(
    tiny: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    config = compose(
        "train", *tiny, "trainer.max_epochs=200", "data.sampler.batches_per_epoch=1",
        "data.num_workers=1",
    )  # fmt: skip
    experiment = Experiment(config, tmp_path / "run")
    seen: dict[int, dict[str, int]] = {}
    learner = experiment.learner
    learner.on_train_epoch_end = lambda: seen.update(  # type: ignore[method-assign]
        {learner.current_epoch: held(tmp_path)}
    )
    experiment.fit()
    first, last = seen[50], seen[199]
    print(first, last)
    assert last["kibibytes"] - first["kibibytes"] < 20 * 1024
    for what in ("handles", "threads", "files"):
        assert last[what] <= first[what]
    assert last["disk"] <= 1.05 * first["disk"]


@pytest.mark.parametrize("logger", ["none", pytest.param("wandb", marks=pytest.mark.slow)])
def test_a_key_of_wandb_is_in_no_file(
    logger: str, cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = "0123456789abcdef" * 2 + "89abcdef"
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cli("train", *tiny, f"logger={logger}", "evaluation.before_training=false", "hydra.run.dir=run")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert any(file.suffix == ".wandb" for file in files) == (logger == "wandb")
    for written in (key, key[:20], b64encode(key.encode()).decode()):
        assert [file for file in files if written.encode() in file.read_bytes()] == []
