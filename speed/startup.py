"""Start-up: to the first step of `lookalike train`, and of what uses a network, beside imports.

    python speed/startup.py

Every process is started anew; the files that it reads lie in the system's cache.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from side_by_side import ROUNDS, Row, Table, rows, take_turns, write

COMMAND = "python speed/startup.py"
IMPORTS = "import torch, pytorch_lightning, hydra"
LOOKALIKE = str(Path(sys.executable).with_name("lookalike"))
HELP, BARE, FIRST = "lookalike --help", IMPORTS, "lookalike train, to its first step"
TORCH, LOAD = "import torch", "import lookalike; lookalike.load_embedder"
CLASSIFY = "lookalike classify, one picture, MobileNetV2"
STAGES = {  # the mark at the end of a stage
    "libraries": "torch, Lightning and Hydra imported",
    "lookalike": "lookalike imported",
    "composed": "configuration composed and checked",
    "built": "records, network, loss and trainer built",
    "started": "trainer and workers started, first batch read",
    "stepped": "the first step itself",
}


def first_step(folder: str) -> None:
    """Train until the first step is done; prints the time at each mark."""
    marks = {"process": _process_start()}

    def mark(name: str) -> None:
        marks[name] = time.time()

    exec(IMPORTS)
    mark("libraries")
    import os

    from pytorch_lightning import Callback

    from lookalike.commands.verb import run_verb
    from lookalike.config import check_arguments
    from lookalike.training.experiment import Experiment

    mark("lookalike")

    class Stop(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            mark("started")

        def on_train_batch_end(self, *_: object) -> None:
            mark("stepped")
            print(json.dumps(marks), flush=True)
            os._exit(0)

    def task(config: object) -> None:
        check_arguments(config)
        mark("composed")
        experiment = Experiment(config, Path(folder))
        experiment.trainer.callbacks.append(Stop())
        mark("built")
        experiment.trainer.fit(experiment.learner, datamodule=experiment.data)

    sys.argv = ["lookalike train", f"hydra.run.dir={folder}"]
    run_verb("train", task)


def trained(folder: str) -> list[str]:
    """Options of `lookalike classify`: a checkpoint of MobileNetV2, and a picture."""
    pictures = ("data.source.species=8", "data.source.images_per_species=8", "data.source.size=96")
    fit = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "callbacks=none")
    _output(
        *(LOOKALIKE, "train", *pictures, *fit, f"paths.cache={folder}", "loss=softmax"),
        *("miner=none", "data.folds=2", "data.num_workers=0", "backbone=mobilenet_v2"),
        *("evaluation.before_training=false", f"hydra.run.dir={folder}/run"),
    )
    picture = next(Path(folder).glob("drawn*/**/*.png"))
    return [f"images={picture}", f"checkpoint={folder}/run/checkpoints/best.ckpt"]


def in_use(rounds: int) -> Table:
    """What uses a trained network, beside importing torch."""
    with tempfile.TemporaryDirectory() as folder:
        options = [*trained(folder), f"hydra.run.dir={folder}/classify"]
        seconds = take_turns(
            {
                TORCH: lambda: _output(sys.executable, "-c", TORCH),
                LOAD: lambda: _output(sys.executable, "-c", LOAD),
                CLASSIFY: lambda: _output(LOOKALIKE, "classify", *options),
            },
            rounds,
        )
    targets = {LOAD: 1 / 1.5, CLASSIFY: 1 / 2}  # at most 1.5 and 2 times importing torch
    title = "Using a trained network, beside importing torch"
    return Table(title, COMMAND, "s", TORCH, rows(seconds, TORCH, targets))


def _process_start() -> float:
    """Seconds since the epoch, by the kernel's account."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - (uptime - ticks / 100)


def stages(marks: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """Seconds of every stage in every round."""
    names = ["process", *STAGES]
    return {
        STAGES[after]: tuple(each[after] - each[before] for each in marks)
        for before, after in pairwise(names)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--first-step", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_step:
        first_step(options.first_step)
        return
    marks: list[dict[str, float]] = []

    def to_first_step() -> None:
        with tempfile.TemporaryDirectory() as folder:
            marks.append(json.loads(_output(sys.executable, __file__, "--first-step", folder)))

    seconds = take_turns(
        {
            HELP: lambda: _output(LOOKALIKE, "--help"),
            BARE: lambda: _output(sys.executable, "-c", IMPORTS),
            FIRST: to_first_step,
        },
        options.rounds,
    )
    parts = stages(marks[1:])  # the first round is not counted
    whole = tuple(map(sum, zip(*parts.values(), strict=True)))
    ours = tuple(map(sum, zip(*list(parts.values())[1:-1], strict=True)))
    lines = [
        Row(HELP, seconds[HELP], 0.3 / median(seconds[HELP]), 1.0, "the ratio is of 0.3 s to it"),
        Row(BARE, seconds[BARE]),
        Row(FIRST, whole),
        Row("of it, between those imports and the step", ours, 1.5 / median(ours), 1.0, "of 1.5 s"),
        *(Row(f"... {name}", values) for name, values in parts.items()),
    ]
    title = "From the command line to the first step"
    first = Table(title, COMMAND, "s", "target", lines)
    write("startup", [first, in_use(options.rounds)])


def _output(*command: str) -> str:
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return run.stdout.strip().rpartition("\n")[2]


if __name__ == "__main__":
    main()
