"""Embedding a set of images: engines of ours beside bare forward passes.

    python speed/embedding.py --weights FILE

Oxford Flowers-102 below LOOKALIKE_DATA; FILE: MobileNetV2's ImageNet weights. Every contender is a
process of its own, since how the C library holds memory is a setting of a process.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from composing import train_config
from omegaconf import DictConfig
from plain_script import make_model
from rival import Worker
from side_by_side import ROUNDS, Table, rows, take_turns, write
from torch import Tensor, nn

from lookalike.evaluation.metrics import values_of
from lookalike.memory import keep_freed_memory
from lookalike.models import racing
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.models.engines import Compute
from lookalike.models.exporting import IMAGES, to_onnx
from lookalike.retrieval.embeddings import embed
from lookalike.training.experiment import Experiment

COMMAND = "python speed/embedding.py --weights FILE"
PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "numpy")
CPU = torch.device("cpu")
RECALL = "recall"  # a question to a contender; any other is for its speed
FIRST, LAST = torch.contiguous_format, torch.channels_last

PLAIN = "torchvision, channels first, images in memory"
PLAIN_KEPT = "the same with our memory"
BARE_LAST = "torchvision, channels last, images in memory"
LIMIT = "limit: the same with our memory"
BARE = {PLAIN: FIRST, PLAIN_KEPT: FIRST, BARE_LAST: LAST, LIMIT: LAST}
THEIR_MEMORY = (PLAIN, BARE_LAST)

RUNTIME_HELD = "onnxruntime alone, images in memory"
RUNTIME_FILES = "limit: onnxruntime alone, the same JPEG files"

TORCH, ONNXRUNTIME = "lookalike, engine=torch", "lookalike, engine=onnxruntime"
OPENVINO, AUTO = "lookalike, engine=openvino", "lookalike, engine=auto"
TORCH_BFLOAT16, OPENVINO_BFLOAT16 = f"{TORCH}, bfloat16", f"{OPENVINO}, bfloat16"
OURS: dict[str, tuple[Any, Any]] = {
    TORCH: ("torch", "float32"),
    ONNXRUNTIME: ("onnxruntime", "float32"),
    OPENVINO: ("openvino", "float32"),
    AUTO: ("auto", "float32"),
    TORCH_BFLOAT16: ("torch", "bfloat16"),
    OPENVINO_BFLOAT16: ("openvino", "bfloat16"),
}
EVERY = (*BARE, RUNTIME_HELD, RUNTIME_FILES, *OURS)


def configuration(folder: str, weights: str) -> DictConfig:
    return train_config(
        folder,
        "experiment=flowers_losses",
        f"backbone.weights={weights}",
        "head=identity",
    )


def bare(weights: str) -> nn.Module:
    """The network as a user builds it: scaled images -> features."""
    model = make_model("mobilenet_v2", weights)
    model.classifier = nn.Identity()
    return model.eval()


def bare_loop(weights: str, images: list[Tensor], layout: torch.memory_format) -> Callable[[], Any]:
    model = bare(weights).to(memory_format=layout)
    ready = [(batch / 255).contiguous(memory_format=layout) for batch in images]

    @torch.inference_mode()
    def run() -> None:
        for batch in ready:
            model(batch)

    return run


def bare_runtime(weights: str, example: Tensor) -> Callable[[Any], Any]:
    """onnxruntime with its defaults: scaled images, an array -> features."""
    import onnxruntime

    content = to_onnx(bare(weights), example / 255)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {IMAGES: batch})[0]


def turn(name: str, made: Experiment, weights: str) -> tuple[Callable[[], Any], Compute | None]:
    """What a contender does in a turn, and the network of ours that it has."""
    loader = made.data.val_dataloader()
    if name in OURS:
        compute = EmbeddingEngine(*OURS[name]).faster(made.learner.embedder.for_measuring())
        return lambda: embed(compute, loader, CPU), compute
    if name == RUNTIME_FILES:
        run = bare_runtime(weights, next(iter(loader)).images)
        return lambda: [run(batch.images.numpy() / np.float32(255)) for batch in loader], None
    images = [batch.images for batch in loader]
    if name == RUNTIME_HELD:
        run = bare_runtime(weights, images[0])
        ready = [(batch / 255).numpy() for batch in images]
        return lambda: [run(batch) for batch in ready], None
    return bare_loop(weights, images, BARE[name]), None


def contender(name: str, weights: str) -> None:
    """Embed the images whenever a line of input comes; answer with the speed, or with a recall."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print as they like
    if name not in THEIR_MEMORY:
        keep_freed_memory()
    racing.WORTH = 0.0  # auto chooses in the round that is not counted
    made = experiment(weights)
    run, compute = turn(name, made, weights)
    for line in sys.stdin:
        answer = note(made, compute) if line.strip() == RECALL and compute else timed(made, run)
        print(json.dumps(answer), file=answers, flush=True)


def experiment(weights: str) -> Experiment:
    with tempfile.TemporaryDirectory() as folder:
        return Experiment(configuration(folder, weights), Path(folder))


def timed(made: Experiment, run: Callable[[], Any]) -> dict[str, Any]:
    count, start = len(made.data.records.ids("val")), perf_counter()
    run()
    return {"images_per_second": count / (perf_counter() - start), "images": count}


def note(made: Experiment, compute: Compute) -> dict[str, Any]:
    """Recall@1 of the test images, and what `auto` chose."""
    found = embed(compute, made.data.test_dataloader(), CPU)
    value = np.nanmean(values_of(found, found, (1,), whole_ranking=False)["recall_at_1"])
    chosen = f"; {compute.reason}" if isinstance(compute, racing.Racing) else ""
    return {"note": f"test recall@1 {value:.4f}{chosen}"}


Speeds = Mapping[str, tuple[float, ...]]


def tables(speeds: Speeds, notes: Mapping[str, str], count: int) -> list[Table]:
    """Beside the bare loops, beside our own PyTorch, beside bare onnxruntime."""
    title = f"Embedding {count} images of 160 px with MobileNetV2"
    remark = (
        "Ours reads JPEG files, decoded beside, and so does the last row of the last table; other "
        "rows have scaled images in memory. With our memory: what is freed stays with the process."
    )

    def table(
        subject: str, names: tuple[str, ...], reference: str, targets: dict[str, float]
    ) -> Table:
        chosen = {name: speeds[name] for name in names}
        lines = rows(chosen, reference, targets, notes, lower_is_better=False)
        heading = f"{title}: {subject}"
        return Table(heading, COMMAND, "images/s", reference, lines, [remark], PACKAGES)

    return [
        table("beside the usual loop", (PLAIN, TORCH, AUTO), PLAIN, {TORCH: 1.5, AUTO: 1.5}),
        table("beside bare loops", (*BARE, TORCH), LIMIT, {TORCH: 0.95}),
        table("engines", tuple(OURS), TORCH, {AUTO: 1.7}),
        table(
            "beside bare onnxruntime",
            (ONNXRUNTIME, RUNTIME_HELD, RUNTIME_FILES),
            RUNTIME_FILES,
            {ONNXRUNTIME: 0.95},
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        contender(given.contender, given.weights)
        return
    workers: dict[str, Worker] = {}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in EVERY}

    def ask(name: str) -> None:
        if name not in workers:  # one after another: starting takes both cores
            own = ("--weights", given.weights, "--contender", name)
            workers[name] = Worker(sys.executable, __file__, *own)
        answers[name].append(workers[name]())

    take_turns({name: partial(ask, name) for name in EVERY}, given.rounds)
    notes = {name: workers[name](RECALL)["note"] for name in OURS}
    for worker in workers.values():
        worker.close()
    speeds = {
        name: tuple(answer["images_per_second"] for answer in each[1:])
        for name, each in answers.items()
    }
    write("embedding", tables(speeds, notes, answers[TORCH][0]["images"]))


if __name__ == "__main__":
    main()
