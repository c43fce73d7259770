"""Embedding and scoring with one process and with two, on the same cores.

    python speed/processes.py --weights FILE

`lookalike train trainer=ddp trainer.max_epochs=0` measures the network as it is: processes share
the images (gloo), and each scores its own queries. One process computes with two threads, two with
one thread each. Oxford Flowers-102 below LOOKALIKE_DATA; FILE: MobileNetV2's ImageNet weights.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from composing import train_config
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule, Trainer
from side_by_side import ROUNDS, Table, rows, take_turns, write

COMMAND = "python speed/processes.py --weights FILE"
CORES = 2  # which the processes share
ONE, TWO = "1 process of 2 threads", "2 processes of 1 thread"
PROCESSES = {ONE: 1, TWO: 2}
PACKAGES = ("torch", "torchvision", "pytorch-lightning")


class Clock(Callback):
    """Writes the seconds of all passes of measuring, scoring included, into a file.

    Args:
        file: is replaced after each pass.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.seconds = 0.0
        self.since = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += perf_counter() - self.since
        if trainer.is_global_zero:
            self.file.write_text(str(self.seconds))

    on_test_start, on_test_end = on_validation_start, on_validation_end


def overrides(folder: str | Path, weights: str, count: int) -> list[str]:
    """Of `lookalike train`: the network is measured, and nothing is trained."""
    return [
        "experiment=flowers_losses",
        f"backbone.weights={weights}",
        "head=identity",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        f"trainer.devices={count}",
        "trainer.precision=32-true",
        "trainer.max_epochs=0",
        f"threads={CORES // count}",
        f"data.num_workers={CORES // count}",
        "data.cache=disk",
        f"paths.cache={folder}/cache",
        "+callbacks.clock._target_=processes.Clock",
        f"+callbacks.clock.file={folder}/seconds",
    ]


def configuration(folder: str | Path, weights: str, count: int) -> DictConfig:
    return train_config(folder, *overrides(folder, weights, count))


def measured(folder: Path, weights: str, count: int, *more: str) -> tuple[float, dict[str, Any]]:
    """Images per second of one command, and what its metrics.json says."""
    run = tempfile.mkdtemp(dir=folder)
    own = [f"hydra.run.dir={run}", "callbacks=none", *overrides(folder, weights, count), *more]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(CORES // count),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]),
    }
    command = [sys.executable, "-m", "lookalike", "train", *own]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    written = json.loads(Path(run, "metrics.json").read_text())
    images = written["counts"]["val_images"] + written["counts"]["test_images"]
    return images / float((folder / "seconds").read_text()), written


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Of the scores; float32 sums may be rounded otherwise by another number of threads."""
    names = [name for name in first if name.startswith(("val/", "test/"))]
    assert names
    return max(abs(first[name] - second[name]) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--overrides", nargs="*", default=[], help="of lookalike train")
    given = parser.parse_args()
    weights = str(Path(given.weights).resolve())
    speeds: dict[str, list[float]] = {name: [] for name in PROCESSES}
    scores: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def turn(name: str) -> Callable[[], None]:
            def run() -> None:
                speed, scores[name] = measured(
                    Path(folder), weights, PROCESSES[name], *given.overrides
                )
                speeds[name].append(speed)

            return run

        take_turns({name: turn(name) for name in PROCESSES}, given.rounds)
    difference = largest_difference(scores[ONE], scores[TWO])
    assert difference < 1e-3, difference
    values = {name: tuple(each[1:]) for name, each in speeds.items()}  # without the warm-up
    lines = rows(values, ONE, lower_is_better=False)
    counts = scores[ONE]["counts"]
    table = Table(
        f"Embedding and scoring {counts['val_images'] + counts['test_images']} images in memory, "
        "MobileNetV2, 160 px",
        COMMAND,
        "images/s",
        ONE,
        lines,
        [f"The scores differ by {difference:.1g} at most. Starting a process is not timed."],
        PACKAGES,
    )
    write("processes", [table])


if __name__ == "__main__":
    main()
