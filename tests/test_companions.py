"""Processes that train together: when one dies or fails, all end, and one of them tells."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.compatibility import processes_handed_over
from lookalike.training import companions
from lookalike.training.companions import FIRST, ending_together

SLEEP = ("sleep", "60")


def in_fork(function: Callable[[], None]) -> int:
    """The exit code of a process that runs a function, 0 if it returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are lost in a fork
        process = multiprocessing.get_context("fork").Process(target=function)
        process.start()
    process.join(20)
    code = process.exitcode
    process.kill()
    assert code is not None, "it hangs"
    return code


def starts(*commands: tuple[str, ...]) -> list[subprocess.Popen]:
    """Processes that are handed over as Lightning does it."""
    from pytorch_lightning.strategies.launchers import subprocess_script

    others = [subprocess.Popen(each) for each in commands]
    subprocess_script._launch_process_observer(others)
    return others


@pytest.mark.parametrize(
    ("ending", "told", "code"),
    [
        (("kill", "-9"), r"rank 2 of 3 \(process \d+\) was killed by SIGKILL \(out of mem", 1),
        (("kill", "-15"), r"rank 2 of 3 \(process \d+\) was killed by SIGTERM, and", 1),
        (("sh", "-c", "exit 3"), r"rank 2 of 3 \(process \d+\) failed with exit code 3, and", 3),
    ],
)
def test_the_first_process_does_not_wait_for_one_that_died(
    ending: tuple[str, ...], told: str, code: int, tmp_path: Path
) -> None:
    said, others_file = tmp_path / "said", tmp_path / "others"

    def first() -> None:
        with ending_together(said.write_text):
            failing = ending if ending[0] == "sh" else SLEEP
            others = starts(SLEEP, failing)
            others_file.write_text(str(others[0].pid))
            if ending[0] == "kill":
                subprocess.run([*ending, str(others[1].pid)], check=True)
            time.sleep(60)  # as in a collective that never returns

    assert in_fork(first) == code
    assert re.match(told, said.read_text())
    assert is_gone(int(others_file.read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked for its exit code has."""
    for _ in range(20):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_the_others_do_not_wait_for_the_first(tmp_path: Path) -> None:
    said = tmp_path / "said"

    def other() -> None:
        os.environ["LOCAL_RANK"] = "1"
        with ending_together(said.write_text):
            time.sleep(60)

    def first() -> None:
        os.environ[FIRST] = str(os.getpid())
        multiprocessing.get_context("fork").Process(target=other).start()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_fork(first) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while not said.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert re.match(r"rank 0 \(process \d+\) died, and the others were stopped", said.read_text())


def test_an_error_of_the_first_is_its_own_and_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(companions, "PATIENCE_OF_FIRST", 0.1)
    others: list[subprocess.Popen] = []

    def first() -> None:
        with ending_together(pytest.fail):
            others.extend(starts(SLEEP))
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        first()
    assert others[0].wait(5) == -signal.SIGKILL


def test_nothing_is_told_of_a_good_end() -> None:
    with ending_together(pytest.fail):
        others = starts(("sleep", "0.3"))
    assert others[0].returncode == 0
    assert FIRST not in os.environ


def test_lightnings_observer_is_only_replaced_for_a_time() -> None:
    from pytorch_lightning.strategies.launchers import subprocess_script

    before: Any = subprocess_script._launch_process_observer
    with processes_handed_over(len):
        assert subprocess_script._launch_process_observer is len
    assert subprocess_script._launch_process_observer is before


PAUSE = '''
from pathlib import Path
from time import sleep

from pytorch_lightning import Callback


class Pause(Callback):
    """Waits for ever in the second epoch, in its training or its validation."""

    def __init__(self, where):
        self.where = where

    def on_train_batch_end(self, trainer, *rest):
        self._wait(trainer, "training")

    def on_validation_batch_end(self, trainer, *rest):
        self._wait(trainer, "validation")

    def _wait(self, trainer, where):
        if self.where == where and trainer.current_epoch == 1 and trainer.global_rank:
            Path(f"waits{trainer.global_rank}").touch()
            sleep(600)
'''


@pytest.mark.slow
@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_the_run_with_one_line(
    rank: int, where: str, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Rank 2 waits for ever, and rank 0 for it; a test with real processes, killed with SIGKILL."""
    (tmp_path / "pausing.py").write_text(PAUSE)
    command = [
        sys.executable, "-m", "lookalike", "train", *tiny, "trainer=ddp", "trainer.devices=3",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=3",
        "hydra.run.dir=run", "+callbacks.pause._target_=pausing.Pause",
        f"+callbacks.pause.where={where}",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("w") as said:
        first = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=said)
    while not all((tmp_path / f"waits{each}").is_file() for each in (1, 2)):
        assert first.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.1)
    others = children_of(first.pid)
    assert len(others) == 2
    os.kill([first.pid, *others][rank], signal.SIGKILL)
    assert first.wait(20) == (1 if rank else -signal.SIGKILL)
    assert all(map(is_gone, others))
    told = (tmp_path / "said").read_text()
    assert "Traceback" not in told
    (line,) = (each for each in told.splitlines() if each.startswith("lookalike train:"))
    assert line.startswith(f"lookalike train: rank {rank}")
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert checkpoint.is_file()
    assert f"The last checkpoint is {checkpoint}. Go on: lookalike train resume=" in line
    assert not told.rpartition(line)[2].strip()


def children_of(pid: int) -> list[int]:
    """By the time of their start."""
    return sorted(
        int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    )
