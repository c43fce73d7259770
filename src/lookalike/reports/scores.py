"""What a run leaves for people and programs: the table of scores and metrics.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from lookalike.evaluation.lengths import AT_LENGTH
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
        if AT_LENGTH in name or (name == "precision_at_1" and "test/recall_at_1" in scores):
            continue  # with one result, precision and recall@k are the same
        digits = ".0f" if name.startswith("queries") else ".4f"
        found = [scores.get(prefix + name) for prefix in measured]
        values = ["" if value is None else f"{value:{digits}}" for value in found]
        table.add_row(_called(name), *values)
    Console().print(table)
    print_lengths(scores)


def print_lengths(scores: Mapping[str, float]) -> None:
    """A table with one column for each length at which the test measured embeddings.

    Args:
        scores: by name, such as "test/map_at_r_length_64"; nothing is printed without such names.
    """
    cut = [key.rpartition(AT_LENGTH) for key in scores if key.startswith("test/")]
    lengths = list(dict.fromkeys(length for name, _, length in cut if name))
    if not lengths:
        return
    heads = ["test,\nwhole", *(f"length\n{length}" for length in lengths)]
    table = Table(Column(no_wrap=True), *(Column(head, justify="right") for head in heads))
    for name in dict.fromkeys(name for name, _, _ in cut if name):
        keys = [name, *(f"{name}{AT_LENGTH}{length}" for length in lengths)]
        table.add_row(title(name.removeprefix("test/")), *(f"{scores[key]:.4f}" for key in keys))
    Console().print(table)


def _called(name: str) -> str:
    """A score in the table; behind a count may stand the name of a setup."""
    for count in sorted(COUNTS, key=len, reverse=True):
        if f"{name}_".startswith(f"{count}_"):
            return COUNTS[count] + name.removeprefix(count).replace("_", " ")
    return title(name)


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
