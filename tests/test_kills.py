"""Runs that are killed at any moment, again and again, end as one that was left alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from processes import one_thread

KILLS = 30

# A process that has imported everything forks the runs. Every second kill is at a random time; the
# others are inside of writes: the run kills itself at the n-th call that makes a file durable.
KILLING = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import lookalike.training.run
from lookalike.commands.train import train
from lookalike.commands.verb import run_verb
from lookalike.training.resume import is_resumable

draw, folder = random.Random(0), Path("killed")

def killing(call, countdown):
    def counted(*given):
        countdown[0] -= 1
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given)
    return counted

def start(overrides, writes=None):
    child = os.fork()
    if child == 0:
        if writes is not None:
            countdown = [writes]
            os.fsync, os.replace = killing(os.fsync, countdown), killing(os.replace, countdown)
        sys.argv = ["lookalike train", *overrides]
        run_verb("train", train)
        os._exit(0)
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

began = time.monotonic()
assert ended(start([*sys.argv[1:], "hydra.run.dir=whole"])) == 0
length, given = time.monotonic() - began, list(sys.argv[1:])
kills, finished = {"time": 0, "write": 0}, 0
while sum(kills.values()) < int(os.environ["KILLS"]) or folder.exists():
    if not is_resumable(folder):
        shutil.rmtree(folder, ignore_errors=True)  # nothing was trained yet: it starts again
        overrides = [*given, f"hydra.run.dir={folder}"]
    else:
        overrides = [given[0], f"resume={folder}"]
    kind = "time" if sum(kills.values()) % 2 else "write"
    last = sum(kills.values()) >= int(os.environ["KILLS"])
    child = start(overrides, draw.randrange(1, 60) if kind == "write" and not last else None)
    if kind == "time" and not last:
        time.sleep(draw.uniform(0, length))
        os.kill(child, signal.SIGKILL)
    code = ended(child)
    assert code in (0, -signal.SIGKILL), code
    if code:
        kills[kind] += 1
    else:
        folder.rename(f"finished{finished}")
        finished += 1
print("TOLD", json.dumps({**kills, "finished": finished}))
"""


@pytest.mark.slow
def test_killed_runs_end_with_the_weights_of_one_that_was_not(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    overrides = (
        *tiny, "backbone=tiny_batch_norm", "trainer.max_epochs=3", "data.num_workers=2",
        "data.sampler.batches_per_epoch=5", "checkpoint.every_minutes=0",
    )  # fmt: skip
    elsewhere = "/dev/shm" if Path("/dev/shm").is_dir() else str(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLING, *overrides], cwd=tmp_path,
        env=one_thread(TMPDIR=elsewhere, KILLS=str(KILLS)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout + shown.stderr
    told = json.loads(shown.stdout.rpartition("TOLD")[2])
    assert told["time"] + told["write"] == KILLS
    assert min(told.values()) >= 5
    whole = _state(tmp_path / "whole")
    for number in range(told["finished"]):
        assert _equal(_state(tmp_path / f"finished{number}"), whole)


def _state(run: Path) -> dict[str, Any]:
    """What a finished run leaves: weights, the optimiser, its scores."""
    last, best = (
        torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for name in ("last", "best")
    )
    optimizer = last["optimizer_states"][0]["state"]
    told = json.loads((run / "metrics.json").read_text())
    scores = {key: value for key, value in told.items() if key.startswith(("val/", "test/"))}
    assert len(scores) >= 2
    weights = [checkpoint["state_dict"] for checkpoint in (last, best)]
    return {"weights": weights, "optimizer": optimizer, "scores": scores}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other
