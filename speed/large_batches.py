"""Memory and speed of a training step with a whole batch and with chunks (`chunk_size=64`).

python speed/large_batches.py
"""

import json
import subprocess
import sys
from statistics import median
from time import perf_counter

import torch
from composing import train_config
from omegaconf import DictConfig
from side_by_side import Row, Table, write

from lookalike.config import build
from lookalike.memory import peak_memory, watch_peak
from lookalike.training.chunks import embed_in_chunks

COMMAND = "python speed/large_batches.py"
CHUNK, SIDE, STEPS = 64, 128, 3
SIZES = ((64, None), (256, None), (256, CHUNK), (1024, CHUNK))  # images a batch, and a chunk
SMALL, WHOLE, CHUNKED, LARGE = (
    f"batch of {size}" + (f" in chunks of {chunk}" if chunk else "") for size, chunk in SIZES
)


def configuration(folder: str) -> DictConfig:
    return train_config(
        folder, "backbone=mobilenet_v2", "loss=recall_at_k", f"backbone.image_size={SIDE}"
    )


def step_of(size: int, chunk: int | None) -> dict[str, list[float]]:
    """Images per second of each step, and the most MiB that were held in all of them."""
    config = configuration("unused")
    embedder, loss = build(config.embedder), build(config.loss)
    images = torch.randint(0, 256, (size, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(size) // 4
    watch_peak()
    before, speeds = peak_memory()["memory"], []
    for _ in range(STEPS + 1):
        start = perf_counter()
        embedder.zero_grad()
        loss(embed_in_chunks(embedder, images, chunk), labels).backward()
        speeds.append(size / (perf_counter() - start))
    return {"speeds": speeds[1:], "memory": [peak_memory()["memory"] - before]}


def in_a_process(size: int, chunk: int | None) -> dict[str, list[float]]:
    """The same, in a process of its own, so that nothing was held before."""
    words = [sys.executable, __file__, str(size), str(chunk or 0)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    found = dict(zip((SMALL, WHOLE, CHUNKED, LARGE), (in_a_process(*s) for s in SIZES)))
    small, speed = found[SMALL]["memory"][0], median(found[WHOLE]["speeds"])
    targets = {CHUNKED: 0.8, LARGE: 0.7}
    memory = [
        Row(name, tuple(each["memory"]), small / each["memory"][0], targets.get(name))
        for name, each in found.items()
    ]
    pace = [
        Row(
            name,
            tuple(each["speeds"]),
            median(each["speeds"]) / speed,
            0.7 if name == CHUNKED else None,
        )
        for name, each in found.items()
    ]
    what = f"MobileNetV2 at {SIDE} px in float32, recall@k loss with SiMix, one training step"
    tables = [
        Table(f"{what}: memory above that of the network", COMMAND, "MiB", SMALL, memory),
        Table(
            f"{what}: speed", COMMAND, "images/s", WHOLE, pace,
            ["Chunks embed every image twice: with a backward pass of two forward passes' work, a "
             "ratio of 0.75 is to be expected."],
        ),
    ]  # fmt: skip
    write("large_batches", tables)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(step_of(int(sys.argv[1]), int(sys.argv[2]) or None)))
    else:
        main()
