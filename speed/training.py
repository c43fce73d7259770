"""Training: images per second of `lookalike train` beside a plain script and a bare loop.

    python speed/training.py --weights FILE

FILE: ImageNet weights of MobileNetV2. The images are Oxford Flowers-102's below LOOKALIKE_DATA.
Every contender is a process of its own; its first steps, in which workers start and memory is
found, are not timed. `lookalike train` keeps freed memory, as it does for every user; the plain
script and one bare loop do not, another bare loop does. The last table is the profile: a step of
ours and a bare one, in turns.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from composing import train_config
from omegaconf import DictConfig
from plain_script import BATCH, PER_CLASS, SIZE, TRAIN, Images, make_model, train
from rival import Worker
from side_by_side import ROUNDS, Row, Table, rows, take_turns, write
from steps import Pace, bare_step, our_step

from lookalike.data.datamodule import RetrievalData
from lookalike.data.images import Batch
from lookalike.memory import keep_freed_memory
from lookalike.training.experiment import Experiment, open_data

STEPS, MEMORY = 20, 8  # batches that are trained on, and that are held in memory
COMMAND = "python speed/training.py --weights FILE"
PLAIN = "plain script: torchvision + PML, float32"
FILES, DISK = "lookalike train", "lookalike train, data.cache=disk"
BARE = "bare loop on our settings, images in memory"
LIMIT = "limit: the same loop, freed memory kept as by ours"
PROFILE = "where the time goes"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "pytorch-metric-learning")


def settings(folder: str | Path, network: str, weights: str | None, *more: str) -> DictConfig:
    """What the plain script does, with our defaults in everything else."""
    return train_config(
        folder,
        "data=flowers",
        f"backbone={network}",
        f"backbone.weights={weights or 'null'}",
        f"backbone.image_size={SIZE}",
        "freeze=batch_norm",
        "data.holdout=false",  # the plain script trains on all classes too
        f"images_per_class={PER_CLASS}",
        f"data.batch_size={BATCH}",
        "trainer.max_epochs=1",
        f"trainer.limit_train_batches={STEPS}",
        "trainer.limit_val_batches=0",
        *more,
    )


def fit(config: DictConfig, folder: str) -> Pace:
    experiment = Experiment(config, Path(folder))
    pace = Pace()
    experiment.trainer.callbacks.append(pace)
    experiment.trainer.fit(experiment.learner, datamodule=experiment.data)
    return pace


def held_batches(data: RetrievalData) -> list[Batch]:
    """STEPS batches in memory, some of them the same."""
    read = list(islice(data.train_dataloader(), MEMORY))
    return list(islice(cycle(read), STEPS))


def bare_loop(config: DictConfig) -> Pace:
    """No loader, no Lightning."""
    data, pace = open_data(config), Pace()
    pace.run(bare_step(config, data.miner), held_batches(data))
    return pace


def step_times(config: DictConfig, folder: str) -> dict[str, tuple[float, ...]]:
    """Milliseconds of a bare step and of ours, taking turns, and of a fit's steps and gaps."""
    experiment = Experiment(config, Path(folder))
    learner, batches = experiment.learner, held_batches(experiment.data)
    steps = {"bare loop": bare_step(config, learner.miner), "ours": our_step(learner)}
    paces = {name: Pace() for name in steps}
    for batch in batches:
        for name, step in steps.items():
            paces[name].run(step, [batch])
    fitted = fit(config, folder)
    return {
        "a step of the bare loop": paces["bare loop"].steps,
        "a step of ours without Lightning, images in memory": paces["ours"].steps,
        "a step of lookalike train, data.cache=disk": fitted.steps,
        "between two steps of it: logging, callbacks, waiting for a batch": fitted.gaps,
    }


def write_table(file: Path) -> None:
    """The records for the plain script: the first half of the classes trains."""
    records = open_data(settings(file.parent, "mobilenet_v2", None)).records
    with open(file, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split"))
        writer.writerows(zip(records.paths, records.labels, records.splits, strict=True))


def speeds(network: str, weights: str | None, table: str, rounds: int) -> list[Table]:
    """Beside the plain script, beside the limit, and the parts of a step."""
    found: dict[str, list[float]] = {}

    def worker(name: str) -> Worker:
        own = [sys.executable, __file__, "--contender", name, network, table]
        return Worker(*own, *(["--weights", weights] if weights else []))

    def turn(name: str) -> Callable[[], None]:
        each = worker(name)
        return lambda: found.setdefault(name, []).append(each()["images_per_second"])

    take_turns({name: turn(name) for name in (PLAIN, FILES, DISK, BARE, LIMIT)}, rounds)
    values = {name: tuple(each[1:]) for name, each in found.items()}
    ours = {name: values[name] for name in (FILES, DISK, BARE, LIMIT)}
    title = f"{network}, {SIZE} px, batch {BATCH}"
    parts = {name: tuple(each) for name, each in worker(PROFILE)().items()}
    return [
        compared(title, values, PLAIN, 1.6),
        compared(f"{title}, the same beside the limit", ours, LIMIT, 0.95),
        Table(f"{title}, {PROFILE}", COMMAND, "ms", next(iter(parts)), profile_rows(parts)),
    ]


def compared(
    title: str, values: dict[str, tuple[float, ...]], reference: str, least: float
) -> Table:
    lines = rows(values, reference, {FILES: least, DISK: least}, lower_is_better=False)
    return Table(title, COMMAND, "images/s", reference, lines, packages=PACKAGES)


def profile_rows(parts: dict[str, tuple[float, ...]]) -> list[Row]:
    *steps, gap = rows(parts, next(iter(parts)))
    return [*steps, replace(gap, ratio=None)]


def contender(name: str, network: str, table: str, weights: str | None) -> None:
    """Train for some steps whenever a line of input comes; answer with the speed."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print as they like
    if name not in (PLAIN, BARE):
        keep_freed_memory()
    for _ in sys.stdin:
        print(json.dumps(answer(name, network, table, weights)), file=answers, flush=True)


def answer(name: str, network: str, table: str, weights: str | None) -> dict[str, object]:
    cache = "none" if name == FILES else "disk"
    with tempfile.TemporaryDirectory() as folder:
        config = settings(folder, network, weights, f"data.cache={cache}")
        if name == PROFILE:
            return dict(step_times(config, folder))
        if name == PLAIN:
            speed = train(make_model(network, weights), Images(table, "train", TRAIN), STEPS)
        else:
            pace = bare_loop(config) if name in (BARE, LIMIT) else fit(config, folder)
            speed = pace.images_per_second
    return {"images_per_second": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        contender(*given.contender, given.weights)
        return
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "records.csv")
        write_table(Path(table))
        networks = {"mobilenet_v2": given.weights, "resnet18": None}
        tables = [speeds(*each, table, given.rounds) for each in networks.items()]
        write("training", [table for group in tables for table in group])


if __name__ == "__main__":
    main()
