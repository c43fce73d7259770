"""The confusion matrix of a run's classifier on the test images, as a picture and a table."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lookalike.evaluation.classification import confusion_matrix
from lookalike.losses.classifier import classifier_of
from lookalike.reports.finished import FinishedRun

log = logging.getLogger(__name__)

LARGEST = 25  # classes whose counts can be read in a picture or on a terminal


class Confusion:
    """confusion.csv and confusion.png: a row is a class, a column what its images were taken for.

    Without a classifier of the test's classes there is nothing to draw, which is said.
    """

    def write(self, run: FinishedRun) -> list[Path]:
        trained = np.unique(run.records.labels[run.records.ids("train")])
        names = [run.records.class_names[label] for label in trained]
        classifier = classifier_of(run.loss, names)
        labels = run.records.labels_as(names)[run.embeddings.ids]
        if classifier is None or (labels < 0).any():
            log.warning(
                "report=confusion draws nothing: it needs a loss with a classifier (loss=softmax) "
                "and a test on the classes that train (data.protocol=official or seen_classes)"
            )
            return []
        predicted = classifier(run.embeddings.vectors).argmax(1)
        counts = confusion_matrix(labels, predicted, len(names))
        if len(names) <= LARGEST:
            _print(counts, names)
        files = [run.folder / "confusion.csv", run.folder / "confusion.png"]
        _write(counts, names, files[0])
        _draw(counts, names, files[1])
        return files


def _print(counts: NDArray[np.int64], names: Sequence[str]) -> None:
    table = Table("class", *names, "right", title="test images, and what they were taken for")
    for name, row, right in zip(names, counts, _shares(counts).diagonal(), strict=True):
        table.add_row(name, *map(str, row), f"{right:.1%}")
    Console().print(table)


def _write(counts: NDArray[np.int64], names: Sequence[str], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("class", *names))
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))


def _draw(counts: NDArray[np.int64], names: Sequence[str], file: Path) -> None:
    """Shade is the share of the row; the numbers are images."""
    from matplotlib.figure import Figure  # slow to import; without pyplot it draws with Agg

    size = 3 + 0.5 * min(len(names), 2 * LARGEST)
    figure = Figure(figsize=(size + 1, size), dpi=120, layout="constrained")
    axes = figure.subplots()
    shares = _shares(counts)
    shade = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shade, label="share of the class", shrink=0.8)
    accuracy = counts.trace() / counts.sum()
    axes.set(
        title=f"{counts.trace()} of {counts.sum()} test images right ({accuracy:.1%})",
        xlabel="predicted",
        ylabel="class",
    )
    if len(names) <= LARGEST:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for row, column in np.ndindex(counts.shape):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)
    figure.savefig(file)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
