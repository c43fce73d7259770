"""Training: images per second of `lookalike train` beside a plain script and a bare loop.

    python benchmarks/training.py --weights FILE

FILE: ImageNet weights of MobileNetV2. The images are Oxford Flowers-102's below LOOKALIKE_DATA.
Every contender is a process of its own, and all steps count, the start of its workers included.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from composing import train_config
from omegaconf import DictConfig
from plain_script import (
    BATCH,
    NORMALIZE,
    PER_CLASS,
    SIZE,
    TRAIN,
    Images,
    make_model,
    train,
)
from rival import Worker
from side_by_side import ROUNDS, Table, rows, take_turns, write
from torch import nn
from torch.nn.functional import normalize

from lookalike.config import build
from lookalike.experiment import Experiment, open_data

STEPS, MEMORY = 20, 8  # batches that are trained on, and that the bare loop holds
COMMAND = "python benchmarks/training.py --weights FILE"
PLAIN = "plain script: torchvision + PML, float32"
FILES, DISK = "lookalike train", "lookalike train, data.cache=disk"
LIMIT = "limit: bare loop on our settings, images in memory"
GAP = (
    "Files are decoded on the cores that train, and every step counts, those too in which workers "
    "start. What else lies between is not known yet."
)
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
        f"data.sampler.images_per_class={PER_CLASS}",
        f"data.batch_size={BATCH}",
        "trainer.max_epochs=1",
        f"trainer.limit_train_batches={STEPS}",
        "trainer.limit_val_batches=0",
        *more,
    )


def lookalike_speed(config: DictConfig, folder: str) -> float:
    experiment = Experiment(config, Path(folder))
    experiment.trainer.fit(experiment.learner, datamodule=experiment.data)
    return experiment.throughput.images_per_second


def bare_loop(config: DictConfig) -> float:
    """No loader, no Lightning: the plain script's network with our levers, images in memory."""
    data = open_data(config)
    batches = [batch for _, batch in zip(range(MEMORY), data.train_dataloader(), strict=False)]
    name, weights = config.backbone.name, config.backbone.weights
    model = make_model(name, weights).to(memory_format=torch.channels_last).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    centre, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (NORMALIZE.mean, NORMALIZE.std))
    loss_function, miner = build(config.loss), data.miner
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    start = perf_counter()
    for step in range(STEPS):
        images, labels, _ = batches[step % MEMORY]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = normalize(model((images / 255 - centre) / spread).float())
        loss = loss_function(embeddings, labels, miner(embeddings, labels))
        loss.backward()
        optimizer.step()
    return STEPS * BATCH / (perf_counter() - start)


def write_table(file: Path) -> None:
    """The records for the plain script: the first half of the classes trains."""
    records = open_data(settings(file.parent, "mobilenet_v2", None)).records
    with open(file, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split"))
        writer.writerows(zip(records.paths, records.labels, records.splits, strict=True))


def speeds(network: str, weights: str | None, table: str, rounds: int) -> list[Table]:
    """Beside the plain script, and beside the limit."""
    found: dict[str, list[float]] = {}

    def turn(name: str) -> Callable[[], None]:
        own = [sys.executable, __file__, "--contender", name, network, table]
        worker = Worker(*own, *(["--weights", weights] if weights else []))
        return lambda: found.setdefault(name, []).append(worker()["images_per_second"])

    take_turns({name: turn(name) for name in (PLAIN, FILES, DISK, LIMIT)}, rounds)
    values = {name: tuple(each[1:]) for name, each in found.items()}
    ours = {name: values[name] for name in (FILES, DISK, LIMIT)}
    return [
        compared(f"{network}, {SIZE} px, batch {BATCH}", values, PLAIN, 1.6),
        compared(f"{network}, the same beside the limit", ours, LIMIT, 0.95, GAP),
    ]


def compared(
    title: str, values: dict[str, tuple[float, ...]], reference: str, least: float, note: str = ""
) -> Table:
    lines = rows(values, reference, {FILES: least, DISK: least}, lower_is_better=False)
    notes = [note] if note else []
    return Table(title, COMMAND, "images/s", reference, lines, notes, PACKAGES)


def contender(name: str, network: str, table: str, weights: str | None) -> None:
    """Train for some steps whenever a line of input comes; answer with the speed."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print as they like
    cache = "disk" if name == DISK else "none"
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            config = settings(folder, network, weights, f"data.cache={cache}")
            if name == PLAIN:
                speed = train(make_model(network, weights), Images(table, "train", TRAIN), STEPS)
            else:
                speed = bare_loop(config) if name == LIMIT else lookalike_speed(config, folder)
        print(json.dumps({"images_per_second": speed}), file=answers, flush=True)


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
        write("training", [table for pair in tables for table in pair])


if __name__ == "__main__":
    main()
