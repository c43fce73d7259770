"""What a run leaves for people and programs: the table of scores and metrics.json."""

import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Column, Table

from lookalike.device import machine
from lookalike.reports.finished import FinishedRun, Report

PACKAGES = (
    "lookalike",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "pytorch-metric-learning",
    "hydra-core",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
)
COUNTS = {"queries": "queries", "queries_without_positive": "no positive"}


@rank_zero_only
def write_metrics(file: Path, scores: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    """metrics.json: the scores by name, then what is needed to judge them; whole or not there."""
    content = {
        **scores,
        **facts,
        "hardware": machine(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(file)


@rank_zero_only
def print_counts(counts: Mapping[str, int]) -> None:
    """How much each part holds, as `RetrievalData.counts` gives it."""
    parts = (
        f"{part} {counts[f'{part}_images']} images of {counts[f'{part}_classes']} classes"
        for part in ("train", "val", "test")
    )
    Console().print("; ".join(parts))


@rank_zero_only
def print_scores(scores: Mapping[str, float], epochs: int, refit: bool) -> None:
    """A table with one column a measurement: epoch 0, the chosen epoch, and the test."""
    titles = {
        "epoch_0/val/": "val\nepoch 0",
        "val/": f"val\nepoch {epochs}",
        "epoch_0/test/": "test\nepoch 0",
        "test/": "test\nrefitted" if refit else f"test\nepoch {epochs}",
    }
    measured = [prefix for prefix in titles if f"{prefix}queries" in scores]
    table = Table(Column(no_wrap=True))
    for prefix in measured:
        table.add_column(titles[prefix], justify="right", no_wrap=True)
    for name in (key.removeprefix("test/") for key in scores if key.startswith("test/")):
        digits = ".0f" if name in COUNTS else ".4f"
        title = COUNTS.get(name, name.replace("_", " "))
        table.add_row(title, *(f"{scores[prefix + name]:{digits}}" for prefix in measured))
    Console().print(table)


@rank_zero_only
def print_outcome(
    images_per_second: float, peak: Mapping[str, int], checkpoint: Path, metrics: Path
) -> None:
    """How fast it trained, how much memory it took at most, and where what it leaves is; paths are
    not wrapped, to be copied."""
    held = ", ".join(f"{mebibytes} MiB of {what}" for what, mebibytes in peak.items())
    print(f"{images_per_second:.0f} images/s in training, at most {held}".replace("_", " "))
    print(checkpoint, metrics, sep="\n")


@rank_zero_only
def write_reports(reports: Mapping[str, Report], run: FinishedRun) -> list[Path]:
    """Have every report written, and say where."""
    written = [file for report in reports.values() for file in report.write(run)]
    for file in written:
        print(file)
    return written


def versions() -> dict[str, str]:
    """Of the packages that a score may depend on, those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Of the folder in which the command was given; null outside of a repository."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return answer.stdout.strip() or None
