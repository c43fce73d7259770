"""Embedding a set of images beside the bare forward pass.

    python speed/embedding.py --weights FILE

Oxford Flowers-102 below LOOKALIKE_DATA; FILE: MobileNetV2's ImageNet weights.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import train_config
from omegaconf import DictConfig
from plain_script import make_model
from side_by_side import ROUNDS, Table, rows, take_turns, write
from torch import Tensor, nn

from lookalike.evaluation.metrics import values_of
from lookalike.retrieval.embeddings import embed
from lookalike.training.experiment import Experiment

COMMAND = "python speed/embedding.py --weights FILE"
OURS = "lookalike"
PLAIN = "torchvision, channels first, images in memory"
LIMIT = "limit: torchvision, channels last, images in memory"
BFLOAT16 = "the same in bfloat16"
CPU = torch.device("cpu")


def configuration(folder: str, weights: str) -> DictConfig:
    return train_config(
        folder,
        "experiment=flowers_losses",
        f"backbone.weights={weights}",
        "head=identity",
    )


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


def in_bfloat16(compute: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*given: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return compute(*given)

    return inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Experiment(configuration(folder, given.weights), Path(folder))
    embedder = made.learner.embedder.eval()
    loader = made.data.val_dataloader()
    images = [batch.images for batch in loader]
    limit = bare(given.weights, images, torch.channels_last)
    contenders = {
        PLAIN: bare(given.weights, images, torch.contiguous_format),
        OURS: lambda: embed(embedder.for_measuring(), loader, CPU),
        BFLOAT16: in_bfloat16(limit),
        LIMIT: limit,
    }
    seconds = take_turns(contenders, given.rounds)
    count = sum(len(batch) for batch in images)
    speeds = {name: tuple(count / each for each in turns) for name, turns in seconds.items()}
    notes = {
        OURS: f"test recall@1 {recall(made, embedder.for_measuring())}",
        BFLOAT16: f"test recall@1 {recall(made, in_bfloat16(embedder))}",
    }
    table = Table(
        f"Embedding {count} JPEG files, MobileNetV2, 160 px",
        COMMAND,
        "images/s",
        LIMIT,
        rows(speeds, LIMIT, {OURS: 0.95}, notes, lower_is_better=False),
        [
            "Float32 but for one row: bfloat16 costs recall of frozen features, so nothing is "
            "measured in it. Ours folds batch norm into the convolutions, files are decoded beside."
        ],
    )
    write("embedding", [table])


def recall(made: Experiment, compute: Callable[[Tensor], Tensor]) -> str:
    found = embed(compute, made.data.test_dataloader(), CPU)
    value = np.nanmean(values_of(found, found, (1,), whole_ranking=False)["recall_at_1"])
    return f"{value:.4f}"


if __name__ == "__main__":
    main()
