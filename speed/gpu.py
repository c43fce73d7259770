"""A GPU: training beside a bare loop, scoring beside FAISS's search, and peak memory.

    python speed/gpu.py

ResNet-50 at 224 px and timm's ViT-S/16, in bfloat16, from random weights, on drawn flowers from the
cache of decoded images. Without a GPU every row is "not measured".
"""

import argparse
import gc
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import timm
import torch
import torchvision
from composing import train_config
from evaluation import K, clusters
from omegaconf import DictConfig
from plain_script import NORMALIZE
from pytorch_lightning import Callback, LightningModule, Trainer
from side_by_side import ROUNDS, Row, Table, rows, take_turns, watched, write
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.config import build
from lookalike.data.images import Batch
from lookalike.evaluation.metrics import values_of
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.faiss_flat import import_faiss
from lookalike.training.experiment import Experiment, open_data

faiss = import_faiss()  # with the kernels of this processor, for all contenders
COMMAND = "python speed/gpu.py"
BATCH, EMBEDDING, NEIGHBOURS = 128, 512, 11
STEPS, WARM_UP, HELD = 60, 20, 8  # of training; batches that the bare loop holds on the GPU
BACKBONES = {
    "ResNet-50": ["backbone=resnet50"],
    "ViT-S/16": ["backbone=timm", "backbone.name=vit_small_patch16_224"],
}
TRAIN, BARE = "lookalike train, data.cache=disk", "limit: bare loop, images on the GPU"
QUERIES = {60_000: 60_000, 1_000_000: 10_000}  # by images in the gallery
SEARCH = f"FAISS search on the GPU, k = {NEIGHBOURS}"
GPU = torch.device("cuda")
# how the metrics are asked for, by the name of the row: (queries, gallery) -> values
SCORING: dict[str, Callable[[Embeddings, Embeddings], object]] = {
    "lookalike, engine=faiss": partial(
        values_of, k=K, whole_ranking=False, engines=Engines("faiss", GPU)
    ),
    "lookalike, engine=bounded": partial(
        values_of, k=K, whole_ranking=False, engines=Engines("bounded", GPU)
    ),
    "lookalike, with MAP": partial(
        values_of, k=K, whole_ranking=True, engines=Engines("auto", GPU)
    ),
}
PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "faiss-cpu", "faiss-gpu-cuvs")
Contender = Callable[[], float]  # measures once; a speed or seconds


@dataclass(frozen=True)
class Comparison:
    """A table that is to be measured.

    Args:
        title: a heading.
        unit: of what the contenders return.
        reference: the row that ratios refer to.
        targets: the least ratios of our rows; the names of all rows but the reference.
        open: the contenders by name, ready to be measured.
    """

    title: str
    unit: str
    reference: str
    targets: Mapping[str, float]
    open: Callable[[], Mapping[str, Contender]]


class Clock(Callback):
    """Images per second of the steps after the warm-up."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.tick(batch_idx + 1)

    def tick(self, done: int) -> None:
        if done in (WARM_UP, STEPS):
            torch.cuda.synchronize()
            self.times.append(perf_counter())

    @property
    def images_per_second(self) -> float:
        start, end = self.times
        return (STEPS - WARM_UP) * BATCH / (end - start)


def configuration(folder: str | Path, network: str) -> DictConfig:
    return train_config(
        folder,
        "data=drawn",
        "data.source.species=64",
        "data.source.images_per_species=32",
        "data.source.size=256",
        f"data.root={folder}/drawn",
        f"paths.cache={folder}/cache",
        "data.cache=disk",
        f"data.batch_size={BATCH}",
        "data.holdout=false",
        *BACKBONES[network],
        "backbone.weights=null",
        "backbone.image_size=224",
        f"embedding_size={EMBEDDING}",
        f"batches_per_epoch={STEPS}",
        "trainer=gpu",
        "trainer.precision=bf16-mixed",
        "trainer.max_epochs=1",
        "trainer.limit_val_batches=0",
    )


def ours(config: DictConfig) -> float:
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(config.copy(), Path(folder))
        clock = Clock()
        experiment.trainer.callbacks.append(clock)
        experiment.trainer.fit(experiment.learner, datamodule=experiment.data)
    return clock.images_per_second


def bare(config: DictConfig, network: str) -> float:
    """The same network, loss, miner and optimiser; no loader, no Lightning."""
    config, clock = config.copy(), Clock()
    data = open_data(config)
    batches = [
        Batch(*(part.cuda() for part in batch)) for batch in islice(data.train_dataloader(), HELD)
    ]
    step = bare_step(network, build(config.loss), data.miner)
    for number, batch in enumerate(islice(cycle(batches), STEPS), start=1):
        step(batch)
        clock.tick(number)
    return clock.images_per_second


def bare_step(network: str, loss_function: nn.Module, miner: nn.Module) -> Callable[[Batch], None]:
    model = bare_network(network).cuda().to(memory_format=torch.channels_last).train()
    loss_function.cuda()
    optimizer = torch.optim.AdamW([*model.parameters(), *loss_function.parameters()], lr=1e-4)
    centre, spread = (
        torch.tensor(given, device="cuda").view(1, 3, 1, 1)
        for given in (NORMALIZE.mean, NORMALIZE.std)
    )

    def embed(images: Tensor) -> Tensor:
        scaled = images.to(torch.float32, memory_format=torch.channels_last) / 255
        return normalize(model((scaled - centre) / spread).float())

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            embeddings = embed(batch.images)
        loss = loss_function(embeddings, batch.labels, miner(embeddings, batch.labels))
        loss.backward()
        optimizer.step()

    return step


def bare_network(network: str) -> nn.Module:
    if network == "ViT-S/16":
        return timm.create_model("vit_small_patch16_224", num_classes=EMBEDDING)
    return torchvision.models.resnet50(num_classes=EMBEDDING)


def training(folder: str, network: str) -> Comparison:
    def contenders() -> dict[str, Contender]:
        config = configuration(folder, network)
        return {TRAIN: partial(ours, config), BARE: partial(bare, config, network)}

    title = f"Training {network}, 224 px, batch {BATCH}, bfloat16"
    return Comparison(title, "images/s", BARE, {TRAIN: 0.95}, contenders)


def scoring(images: int) -> Comparison:
    def contenders() -> dict[str, Contender]:
        gallery = clusters(images, EMBEDDING, 12)
        queries = gallery[: QUERIES[images]]
        asked = {SEARCH: search_alone, **SCORING}
        return {
            name: partial(seconds, partial(run, queries, gallery)) for name, run in asked.items()
        }

    title = f"Default metrics, {QUERIES[images]:,} queries, {images:,} x {EMBEDDING}"
    return Comparison(title, "s", SEARCH, dict.fromkeys(SCORING, 0.95), contenders)


def search_alone(queries: Embeddings, gallery: Embeddings) -> None:
    resources = faiss.StandardGpuResources()
    flat = faiss.GpuIndexFlatIP(resources, gallery.vectors.shape[1])
    flat.add(gallery.vectors)
    flat.search(queries.vectors, NEIGHBOURS)


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    torch.cuda.synchronize()
    return perf_counter() - start


def measured(comparison: Comparison, rounds: int) -> list[Row]:
    found: dict[str, list[float]] = {}
    contenders = comparison.open()

    def turn(name: str) -> None:
        found.setdefault(name, []).append(contenders[name]())

    take_turns({name: partial(turn, name) for name in contenders}, rounds)
    notes = {name: f"{peak_of(run)} MiB of the GPU" for name, run in contenders.items()}
    values = {name: tuple(each[1:]) for name, each in found.items()}  # without the warm-up
    seconds_count = comparison.unit == "s"
    return rows(values, comparison.reference, comparison.targets, notes, seconds_count)


def not_measured(comparison: Comparison) -> list[Row]:
    ours = [Row(name, (), target=least) for name, least in comparison.targets.items()]
    return [*ours, Row(comparison.reference, ())]


def peak_of(run: Callable[[], object]) -> int:
    """MiB of the GPU that are taken at most while something runs, whichever library takes them."""
    gc.collect()
    torch.cuda.empty_cache()
    before = _taken()
    with watched(_taken) as seen:
        run()
    return (max(seen) - before) // 2**20


def _taken() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    there = torch.cuda.is_available()
    if not there:
        print("No GPU on this machine: nothing is measured.")
    with tempfile.TemporaryDirectory() as folder:
        comparisons = [training(folder, network) for network in BACKBONES]
        comparisons += [scoring(images) for images in QUERIES]
        tables = [
            Table(
                each.title,
                COMMAND,
                each.unit,
                each.reference,
                measured(each, given.rounds) if there else not_measured(each),
                [] if there else ["This machine has no GPU."],
                PACKAGES,
            )
            for each in comparisons
        ]
    write("gpu", tables)


if __name__ == "__main__":
    main()
