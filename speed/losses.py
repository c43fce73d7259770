"""Every loss and miner of conf/ beside a training step, and ours beside
pytorch-metric-learning's: `python speed/losses.py`, about 8 minutes.

A batch has 8 images a class. A loss is timed forward and backward, a miner forward. A contender
leaves the race where its last batch took so long that the next might take more than `PATIENCE`.
"""

import resource
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from composing import train_config
from omegaconf import DictConfig, OmegaConf
from side_by_side import Row, Table, take_turns, write
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.config import build, config_folder

BATCHES = (64, 128, 256, 512, 1024, 2048)
SIZES = (128, 512)  # of embeddings
IMAGES_PER_CLASS = 8
CLASSES = 256
PATIENCE = 10.0  # s a call
LIMIT = 12 * 2**30  # bytes that a call may take
SHARE = 0.05  # of a training step that a loss or miner of ours may take
NODES = {"loss": "loss", "miner": "data.miner"}
RIVALS = {  # ours -> what it stands for
    "loss=triplet": "losses.TripletMarginLoss",
    "loss=ntxent": "losses.NTXentLoss",
    "loss=lifted_structure": "losses.LiftedStructureLoss",
    "loss=tuplet_margin": "losses.TupletMarginLoss",
    "loss=margin": "losses.MarginLoss",
    "loss=snr": "losses.SignalToNoiseRatioContrastiveLoss",
    "loss=smooth_ap": "losses.SmoothAPLoss",
    "loss=pnp": "losses.PNPLoss",
    "loss=histogram": "losses.HistogramLoss",
    "loss=threshold_consistent_margin": "losses.ThresholdConsistentMarginLoss",
    "miner=triplet_margin": "miners.TripletMarginMiner",
    "miner=angular": "miners.AngularMiner",
    "miner=batch_hard": "miners.BatchHardMiner",
    "miner=distance_weighted": "miners.DistanceWeightedMiner",
    "miner=uniform_histogram": "miners.UniformHistogramMiner",
}
NOT_FOR_ANY_BATCH = ("miner=in_pairs", "miner=in_triplets")  # they only number what was drawn
RIVAL_OPTIONS = {"loss=triplet": ["~loss.type_of_triplets"]}
AIMS = {64: 0.5, 128: 0.5, 256: 1.0, 512: 1.0, 1024: 1.0, 2048: 1.0}  # least ratio to a rival
PACKAGES = ("torch", "pytorch-metric-learning")
COMMAND = "python speed/losses.py"


@dataclass(frozen=True)
class Measured:
    """Seconds of every call, and the rise of resident memory in its first; none if it was not
    run, and then why."""

    seconds: tuple[float, ...] = ()
    megabytes: int = 0
    missing: str = ""

    def __str__(self) -> str:
        return self.missing or f"{median(self.seconds) * 1e3:.3g}"


def configuration(*overrides: str) -> DictConfig:
    return train_config(".", f"data.num_classes={CLASSES}", *overrides)


def every_choice() -> list[str]:
    files = [*config_folder().glob("loss/*.yaml"), *config_folder().glob("miner/*.yaml")]
    choices = [f"{file.parent.name}={file.stem}" for file in sorted(files)]
    return [choice for choice in choices if choice not in NOT_FOR_ANY_BATCH]


def built(choice: str, size: int, rival: bool = False) -> nn.Module:
    """A loss or miner of conf/, or what it stands for."""
    node = NODES[choice.partition("=")[0]]
    options = [f"embedding_size={size}"]
    if rival:
        options += [f"{node}._target_=pytorch_metric_learning.{RIVALS[choice]}"]
        options += RIVAL_OPTIONS.get(choice, [])
    if choice == "loss=cross_batch_memory":
        options += [f"loss.memory_size={2 * max(BATCHES)}"]
    return build(OmegaConf.select(configuration(choice, *options), node))


def call_of(part: nn.Module, size: int, batch: int) -> Callable[[], None]:
    """One call on clustered embeddings, with the gradient of a loss."""
    embeddings, labels = embedded(size, batch)

    def run() -> None:
        result = part(embeddings, labels)
        if isinstance(result, Tensor):
            embeddings.grad = None
            result.backward()

    return run


def embedded(size: int, batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(batch) % (batch // IMAGES_PER_CLASS)  # halves alike, for two views
    centres = torch.randn(len(labels.unique()), size, generator=generator)
    noise = torch.randn(batch, size, generator=generator)
    return normalize(0.7 * centres[labels] + noise).requires_grad_(), labels


def race(parts: dict[str, nn.Module], size: int) -> dict[tuple[str, int], Measured]:
    """Measured by name and batch; contenders take turns, but for calls that take seconds."""
    measured: dict[tuple[str, int], Measured] = {}
    out: dict[str, str] = {}
    last: dict[str, float] = {}
    for batch in BATCHES:
        runs = {}
        for name, part in parts.items():
            if name not in out and last.get(name, 0) * 8 > PATIENCE:
                out[name] = f"> {last[name] * 1e3:.3g}"
            if name in out:
                measured[name, batch] = Measured(missing=out[name])
                continue
            run = call_of(part, size, batch)
            try:
                first, rise = first_call(run)
            except RuntimeError:  # an allocation above LIMIT
                out[name] = f"> {LIMIT >> 30} GB"
                measured[name, batch] = Measured(missing=out[name])
                continue
            last[name] = first
            measured[name, batch] = Measured((first,), rise)
            if first < 1:
                runs[name] = run
        for name, seconds in take_turns(runs).items():
            last[name] = min(seconds)
            measured[name, batch] = Measured(seconds, measured[name, batch].megabytes)
    return measured


def first_call(run: Callable[[], None]) -> tuple[float, int]:
    """Seconds, and megabytes by which resident memory rose at its peak (Linux)."""
    CDLL("libc.so.6").malloc_trim(0)  # what was freed before would hide the rise
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, start = status("VmRSS"), perf_counter()
    run()
    return perf_counter() - start, max(0, status("VmHWM") - before) >> 10


def status(field: str) -> int:
    """kB"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def training_step() -> Callable[[], None]:
    """MobileNetV2 at 128 pixels, batch 256, batch norm frozen; its loss costs nothing."""
    config = configuration(
        "backbone=mobilenet_v2", "backbone.weights=null", "freeze=batch_norm", "embedding_size=128"
    )
    embedder = build(config.embedder).train()
    optimizer = torch.optim.AdamW(embedder.parameters(), lr=1e-4)
    images = torch.randint(0, 256, (256, 3, 128, 128), dtype=torch.uint8)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = embedder(images)
        optimizer.zero_grad()
        embeddings.float().square().mean().backward()
        optimizer.step()

    return run


def grid(measured: dict[tuple[str, int], Measured]) -> str:
    """ms by name and batch, a table of its own."""
    lines = [
        f"| ms a call, batch | {' | '.join(map(str, BATCHES))} |",
        "|---" * (len(BATCHES) + 1) + "|",
    ]
    for choice in dict.fromkeys(name for name, _ in measured):
        cells = " | ".join(str(measured[choice, batch]) for batch in BATCHES)
        lines.append(f"| {choice} | {cells} |")
    return "\n".join(lines)


def milliseconds(seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1e3 * value for value in seconds)


def beside_the_step(
    measured: dict[tuple[str, int], Measured], size: int, step: tuple[float, ...]
) -> Table:
    rows = []
    for choice in every_choice():
        own = measured[choice, 256]
        if own.seconds:
            ours = type(built(choice, size)).__module__.startswith("lookalike")
            ratio = median(step) / median(own.seconds)
            note = f"{own.megabytes} MB"
            values = milliseconds(own.seconds)
            rows.append(Row(choice, values, ratio, 1 / SHARE if ours else None, note))
    rows.append(Row("a training step", milliseconds(step), 1.0))
    notes = [
        f"A ratio above {1 / SHARE:g} is less than {SHARE:.0%} of the step; the target is for what "
        "lookalike ships itself. MB: the rise of resident memory in a call.",
        grid(measured),
    ]
    title = f"Losses and miners at batch 256, embeddings of {size}, beside a step of MobileNetV2"
    return Table(title, COMMAND, "ms a call", "the step", rows, notes, PACKAGES)


def ours_and_theirs(measured: dict[tuple[str, int], Measured], size: int) -> Table:
    rows = []
    for choice in RIVALS:
        for batch in BATCHES:
            own, rival = measured[choice, batch], measured[f"{choice}, PML", batch]
            if not own.seconds:
                continue
            base = median(rival.seconds) if rival.seconds else None
            ratio = base / median(own.seconds) if base else None
            memory = f", {rival.megabytes} MB" if rival.seconds else ""
            note = f"{own.megabytes} MB; PML {rival} ms{memory}".replace("GB ms", "GB")
            values = milliseconds(own.seconds)
            rows.append(
                Row(f"{choice}, {batch}", values, ratio, AIMS[batch] if ratio else None, note)
            )
    notes = [f"PML has no ratio where its call would take more than about {PATIENCE:g} s."]
    title = f"Ours and pytorch-metric-learning's, embeddings of {size}"
    return Table(title, COMMAND, "ms a call", "PML", rows, notes, PACKAGES)


def main() -> None:
    torch.manual_seed(0)
    step = take_turns({"a training step": training_step()}, 3)["a training step"]
    ceiling = status("VmSize") * 1024 + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, resource.RLIM_INFINITY))
    tables = []
    for size in SIZES:
        measured: dict[tuple[str, int], Measured] = {}
        for choice in every_choice():
            parts = {choice: built(choice, size)}
            if choice in RIVALS:
                parts[f"{choice}, PML"] = built(choice, size, rival=True)
            measured |= race(parts, size)
        tables += [beside_the_step(measured, size, step), ours_and_theirs(measured, size)]
    write("losses", tables)


if __name__ == "__main__":
    main()
