"""The confusion matrix of a run's classifier on the test images, as a picture and a table."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.classification import confusion_matrix
from lookalike.files import writing
from lookalike.losses.classifier import classifier_of
from lookalike.reports.finished import FinishedRun
from lookalike.reports.style import figure, literal, save_figure, shades
from lookalike.reports.tables import Table, print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)

LARGEST = 25  # classes whose counts can be read in a picture or on a terminal
DARK = 0.6  # share from which on the shade needs white ink


class Confusion:
    """confusion.csv and confusion.png: a row is a class, a column what its images were taken for.

    Without a classifier of the test's classes there is nothing to draw, which is said.
    """

    def write(self, run: FinishedRun) -> list[Path]:
        """Count the test images by class and by what they are taken for; the paths."""
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
    lines = [
        [name, *map(str, row), f"{right:.1%}"]
        for name, row, right in zip(names, counts, _shares(counts).diagonal(), strict=True)
    ]
    head = ["class", *names, "right"]
    print_table(Table(head, lines, title="test images, and what they were taken for"))


def _write(counts: NDArray[np.int64], names: Sequence[str], file: Path) -> None:
    with writing(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("class", *names))
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))


def _draw(counts: NDArray[np.int64], names: Sequence[str], file: Path) -> None:
    """Shade is the share of the row; the numbers are images."""
    size = 3 + 0.5 * min(len(names), 2 * LARGEST)
    picture = figure(size + 1, size)
    axes = picture.subplots()
    shares = _shares(counts)
    shade = axes.imshow(shares, cmap=shades(), vmin=0, vmax=1)
    picture.colorbar(shade, label="share of the class", shrink=0.8)
    accuracy = counts.trace() / counts.sum()
    axes.set(
        title=f"{counts.trace()} of {counts.sum()} test images right ({accuracy:.1%})",
        xlabel="predicted",
        ylabel="class",
    )
    if len(names) <= LARGEST:
        _name(axes, counts, names)
    save_figure(picture, file)


def _name(axes: "Axes", counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Classes along the sides, and counts inside."""
    drawn = [literal(name) for name in names]
    axes.set_xticks(range(len(names)), drawn, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), drawn)
    shares = _shares(counts)
    for row, column in np.ndindex(counts.shape):
        ink = "white" if shares[row, column] > DARK else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
