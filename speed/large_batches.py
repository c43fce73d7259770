"""Memory and speed of a training step with a whole batch and with chunks (`chunk_size=64`).

python speed/large_batches.py
"""

import json
import subprocess
import sys
from functools import partial
from time import perf_counter

import torch
from composing import train_config
from omegaconf import DictConfig
from side_by_side import Table, rows, take_turns, write

from lookalike.config import build
from lookalike.memory import peak_memory, watch_peak
from lookalike.training.chunks import embed_in_chunks

COMMAND = "python speed/large_batches.py"
CHUNK, SIDE = 64, 128
SMALL, WHOLE = "batch of 64", "batch of 256"
CHUNKED, LARGE = "256 in chunks of 64", "1024 in chunks of 64"
BATCHES = {SMALL: (64, None), WHOLE: (256, None), CHUNKED: (256, CHUNK), LARGE: (1024, CHUNK)}


def configuration(folder: str) -> DictConfig:
    return train_config(
        folder, "backbone=mobilenet_v2", "loss=recall_at_k", f"backbone.image_size={SIDE}"
    )


def step_of(size: int, chunk: int | None) -> dict[str, float]:
    """Images per second of the second step, and the most MiB that were held in both."""
    config = configuration("unused")
    embedder, loss = build(config.embedder), build(config.loss)
    images = torch.randint(0, 256, (size, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(size) // 4
    watch_peak()
    before, speed = peak_memory()["memory"], 0.0
    for _ in range(2):
        start = perf_counter()
        embedder.zero_grad()
        loss(embed_in_chunks(embedder, images, chunk), labels).backward()
        speed = size / (perf_counter() - start)
    return {"speed": speed, "memory": peak_memory()["memory"] - before}


def main() -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in BATCHES}

    def turn(name: str) -> None:
        """In a process of its own, so that nothing was held before."""
        size, chunk = BATCHES[name]
        words = [sys.executable, __file__, str(size), str(chunk or 0)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found[name].append(json.loads(done.stdout.splitlines()[-1]))

    take_turns({name: partial(turn, name) for name in BATCHES}, warm_up=False)
    memory = {name: tuple(each["memory"] for each in turns) for name, turns in found.items()}
    speeds = {name: tuple(each["speed"] for each in turns) for name, turns in found.items()}
    what = f"a training step of MobileNetV2 at {SIDE} px in float32, recall@k loss with SiMix"
    twice = (
        "Chunks embed every image twice: where a backward pass takes the time of two forward ones, "
        "a ratio of 0.75 is to be expected."
    )
    tables = [
        Table(
            f"Memory of {what}", COMMAND, "MiB above the network's", SMALL,
            rows(memory, SMALL, {CHUNKED: 0.8, LARGE: 0.7}),
        ),
        Table(
            f"Speed of {what}", COMMAND, "images/s", WHOLE,
            rows(speeds, WHOLE, {CHUNKED: 0.7}, lower_is_better=False), [twice],
        ),
    ]  # fmt: skip
    write("large_batches", tables)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(step_of(int(sys.argv[1]), int(sys.argv[2]) or None)))
    else:
        main()
