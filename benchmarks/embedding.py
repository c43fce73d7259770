"""Embedding a set of images beside the bare forward pass.

    python benchmarks/embedding.py --weights FILE

Oxford Flowers-102 below LOOKALIKE_DATA; FILE: MobileNetV2's ImageNet weights.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from composing import train_config
from plain_script import make_model
from side_by_side import ROUNDS, Table, rows, take_turns, write
from torch import Tensor, nn

from lookalike.evaluation.metrics import values_of
from lookalike.experiment import Experiment
from lookalike.retrieval.embeddings import embed

COMMAND = "python benchmarks/embedding.py --weights FILE"
OURS, FLOAT = "lookalike, bfloat16", "lookalike, float32"
PLAIN = "torchvision, float32, channels first, images in memory"
LIMIT = "limit: torchvision, bfloat16, channels last, images in memory"
CPU = torch.device("cpu")


def experiment(weights: str, folder: str) -> Experiment:
    config = train_config(
        folder,
        "experiment=flowers_losses",
        f"backbone.weights={weights}",
        "head=identity",
        "~head.whitening",
        "trainer.precision=bf16-mixed",
    )
    return Experiment(config, Path(folder))


def bare(weights: str, images: list[Tensor], layout: torch.memory_format) -> Callable[[], None]:
    model = make_model("mobilenet_v2", weights)
    model.classifier = nn.Identity()
    model = model.eval().to(memory_format=layout)
    ready = [(batch / 255).contiguous(memory_format=layout) for batch in images]

    @torch.inference_mode()
    def run() -> None:
        for batch in ready:
            model(batch)

    return run


def in_bfloat16(run: Callable[[], None]) -> Callable[[], None]:
    def inside() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            run()

    return inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = experiment(given.weights, folder)
    embedder = made.learner.embedder.eval()
    bfloat16 = made.trainer.precision_plugin.forward_context
    loader = made.data.val_dataloader()
    images = [batch.images for batch in loader]
    contenders = {
        PLAIN: bare(given.weights, images, torch.contiguous_format),
        FLOAT: lambda: embed(embedder, loader, CPU),
        OURS: lambda: embed(embedder, loader, CPU, bfloat16),
        LIMIT: in_bfloat16(bare(given.weights, images, torch.channels_last)),
    }
    seconds = take_turns(contenders, given.rounds)
    count = sum(len(batch) for batch in images)
    speeds = {name: tuple(count / each for each in turns) for name, turns in seconds.items()}
    table = Table(
        f"Embedding {count} JPEG files, MobileNetV2, 160 px",
        COMMAND,
        "images/s",
        LIMIT,
        rows(speeds, LIMIT, {OURS: 0.95}, dict(recalls(made)), lower_is_better=False),
    )
    write("embedding", [table])


def recalls(made: Experiment) -> Iterator[tuple[str, str]]:
    """Recall@1 of the test images in both number formats."""
    formats = {FLOAT: {}, OURS: {"precision": made.trainer.precision_plugin.forward_context}}
    for name, precision in formats.items():
        loader = made.data.test_dataloader()
        found = embed(made.learner.embedder, loader, CPU, **precision)
        value = np.nanmean(values_of(found, found, (1,), whole_ranking=False)["recall_at_1"])
        yield name, f"test recall@1 {value:.4f}"


if __name__ == "__main__":
    main()
