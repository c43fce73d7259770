"""What a run leaves for people and programs: the table of scores and metrics.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from lookalike.files import write_text
from lookalike.provenance import provenance
from lookalike.reports.tables import title

COUNTS = {"queries": "queries", "queries_without_positive": "no positive"}


def write_metrics(file: Path, scores: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    """metrics.json: the scores by name, then what is needed to judge them; whole or not there.

    Args:
        file: to be written.
        scores: by name, such as "test/map_at_r".
        facts: of the run, in JSON's types; versions, commit and hardware are added.
    """
    content = {**scores, **facts, **provenance()}
    write_text(file, json.dumps(content, indent=2) + "\n")


def print_counts(counts: Mapping[str, int]) -> None:
    """How much each part holds, as `RetrievalData.counts` gives it."""
    parts = (
        f"{part} {counts[f'{part}_images']} images of {counts[f'{part}_classes']} classes"
        for part in ("train", "val", "test")
    )
    Console().print("; ".join(parts))


def print_scores(scores: Mapping[str, float], epochs: int, refit: bool) -> None:
    """A table with one column a measurement: epoch 0, the chosen epoch, and the test.

    Args:
        scores: by name, such as "val/map_at_r"; measurements that are not there have no column.
        epochs: trained until the chosen checkpoint.
        refit: whether the tested network was trained again on the validation classes too.
    """
    titles = {
        "frozen/val/": "val\nfrozen",
        "epoch_0/val/": "val\nepoch 0",
        "val/": f"val\nepoch {epochs}",
        "frozen/test/": "test\nfrozen",
        "epoch_0/test/": "test\nepoch 0",
        "test/": "test\nrefitted" if refit else f"test\nepoch {epochs}",
    }
    measured = [prefix for prefix in titles if f"{prefix}queries" in scores]
    columns = [Column(titles[prefix], justify="right", no_wrap=True) for prefix in measured]
    table = Table(Column(no_wrap=True), *columns)
    for name in (key.removeprefix("test/") for key in scores if key.startswith("test/")):
        digits = ".0f" if name in COUNTS else ".4f"
        found = [scores.get(prefix + name) for prefix in measured]
        values = ["" if value is None else f"{value:{digits}}" for value in found]
        table.add_row(COUNTS.get(name, title(name)), *values)
    Console().print(table)


def print_outcome(facts: Mapping[str, Any], metrics: Path) -> None:
    """How fast it trained, how much memory it took at most, and where what it leaves is.

    Paths are not wrapped, to be copied.

    Args:
        facts: of metrics.json.
        metrics: that file.
    """
    peaks = {"memory": "memory", "gpu_memory": "GPU memory"}
    held = [
        f"{facts[key]} MiB of {n}"
        for p, n in peaks.items()
        if (key := f"peak_{p}_mebibytes") in facts
    ]
    if "images_per_second" in facts:
        print(f"{facts['images_per_second']:.0f} images/s in training")
    if held:
        print(f"at most {', '.join(held)}")
    print(facts["checkpoint"], metrics, sep="\n")
