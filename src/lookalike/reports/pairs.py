"""Pairs: how well the distance of two test images tells whether they show the same class."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.data.tuples import draw_pairs
from lookalike.evaluation.verification import (
    RocCurve,
    area_under_curve,
    equal_error_rate,
    roc_curve,
    verification_metrics,
)
from lookalike.files import write_text
from lookalike.reports.finished import FinishedRun
from lookalike.reports.sheet import Tile, contact_sheet, save_sheet
from lookalike.reports.style import COLOURS, GRID, QUIET, figure, of_line, save_figure
from lookalike.retrieval.embeddings import Embeddings


class Pairs:
    """verification.json and roc.png of seeded test pairs, and pairs.png, some of them.

    The same pairs are measured before training too, if the plan measures epoch 0. On the picture
    a pair is right if the threshold of the best accuracy judges it rightly.

    Args:
        per_class: positive pairs, and as many negative ones.
        shown: classes on the picture, each with a positive pair and a negative pair.
        seed: of the pairs and of what is shown.
    """

    def __init__(self, per_class: int = 50, shown: int = 8, seed: int = 0) -> None:
        self.per_class = per_class
        self.shown = shown
        self.seed = seed

    def write(self, run: FinishedRun) -> list[Path]:
        """Draw the pairs and measure them; the paths of the three files."""
        tested = run.embeddings
        rng = np.random.default_rng(self.seed)
        pairs = draw_pairs(np.arange(len(tested)), tested.labels, rng, self.per_class)  # rows
        curves = {"trained": pair_roc(tested, pairs)}
        metrics = verification_metrics(curves["trained"])
        if run.untrained is not None:
            curves["before training"] = before = pair_roc(run.untrained, pairs)
            starts = verification_metrics(before)
            metrics |= {f"epoch_0/{name}": value for name, value in starts.items()}

        numbers, curve, picture = (
            run.folder / name for name in ("verification.json", "roc.png", "pairs.png")
        )
        write_text(numbers, json.dumps(metrics, indent=2) + "\n")
        draw_roc(curves, curve)
        show = partial(_tiles, run, metrics["threshold"])
        rows = [[*show(first), None, *show(second)] for first, second in self._some(pairs)]
        save_sheet(contact_sheet(rows), picture)
        return [numbers, curve, picture]

    def _some(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """A positive pair and a negative pair of some classes, (shown, 2, 2)."""
        positive, negative = np.split(pairs, 2)  # by class, `per_class` each
        classes = len(positive) // self.per_class
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.choice(classes, min(self.shown, classes), replace=False))
        return np.stack([positive, negative], axis=1)[chosen * self.per_class]


def pair_roc(embeddings: Embeddings, pairs: NDArray[np.int64]) -> RocCurve:
    """How well the distance of pairs of rows (P, 2) tells positive ones from negative ones."""
    first, second = embeddings.labels[pairs].T
    return roc_curve(pair_distances(embeddings, pairs), first == second)


def pair_distances(embeddings: Embeddings, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Euclidean distances of pairs of rows (P, 2), (P,) in [0, 2]."""
    first, second = pairs.T
    difference = embeddings.vectors[first] - embeddings.vectors[second]  # (P, D)
    return np.linalg.norm(difference, axis=1).astype(np.float64)


def draw_roc(curves: Mapping[str, RocCurve], file: Path) -> None:
    """Curves by name, as many as colours, with their points of equal errors; and chance."""
    picture = figure(6, 6)
    axes = picture.subplots()
    for look, (name, roc) in enumerate(curves.items()):
        equal = equal_error_rate(roc)
        label = f"{name}: AUC {area_under_curve(roc):.3f}, equal error rate {equal:.3f} (dot)"
        axes.plot(roc.false_positive_rate, roc.true_positive_rate, label=label, **of_line(look))
        axes.plot(equal, 1 - equal, "o", color=COLOURS[look])
    axes.plot([0, 1], [0, 1], ":", color=QUIET, label="chance: AUC 0.5")
    axes.set(
        title="are two images of one class?",
        aspect="equal",
        xlabel="false positive rate: share of negative pairs called positive",
        ylabel="true positive rate: share of positive pairs called positive",
    )
    axes.grid(color=GRID)
    axes.legend(loc="lower right", fontsize="small")
    save_figure(picture, file)


def _tiles(run: FinishedRun, threshold: float, pair: NDArray[np.int64]) -> tuple[Tile, Tile]:
    """The images of two rows, titled with their classes, their distance and what they are."""
    records = run.records
    distance = float(pair_distances(run.embeddings, pair[None])[0])
    first, second = run.embeddings.ids[pair].tolist()
    positive = records.labels[first] == records.labels[second]
    right = bool((distance <= threshold) == positive)

    def tile(row: int, words: str) -> Tile:
        return Tile(records.paths[row], (records.class_names[records.labels[row]], words), right)

    kind = "positive" if positive else "negative"
    return tile(first, f"distance {distance:.3f}"), tile(second, kind)
