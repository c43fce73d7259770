"""Pairs: how well the distance of two test images tells whether they show the same class."""

import json
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
from lookalike.reports.finished import FinishedRun
from lookalike.reports.sheet import Tile, contact_sheet


class Pairs:
    """verification.json and roc.png of seeded test pairs, and pairs.png, some of them.

    On the picture a pair is right if the threshold of the best accuracy judges it rightly.

    Args:
        per_class: pairs alike, and as many unlike.
        shown: classes on the picture, each with a pair alike and a pair unlike.
        seed: of the pairs and of what is shown.
    """

    def __init__(self, per_class: int = 50, shown: int = 8, seed: int = 0) -> None:
        self.per_class = per_class
        self.shown = shown
        self.seed = seed

    def write(self, run: FinishedRun) -> list[Path]:
        rng = np.random.default_rng(self.seed)
        tested = run.embeddings
        rows = np.arange(len(tested))
        pairs = draw_pairs(rows, tested.labels, rng, self.per_class)  # (P, 2) rows
        first, second = tested.vectors[pairs].astype(np.float64).swapaxes(0, 1)
        distances = np.linalg.norm(first - second, axis=1)
        alike = np.equal(*tested.labels[pairs].T)
        roc = roc_curve(distances, alike)
        metrics = verification_metrics(roc)

        numbers, curve, picture = (
            run.folder / name for name in ("verification.json", "roc.png", "pairs.png")
        )
        numbers.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        draw_roc(roc, curve)
        tiles = _tiles(run, tested.ids[pairs], distances, alike, metrics["threshold"])
        starts = np.arange(0, len(pairs) // 2, self.per_class)  # of each class, among the alike
        chosen = np.sort(rng.choice(starts, min(self.shown, len(starts)), replace=False))
        half = len(pairs) // 2
        sheet = [[*tiles[row], None, *tiles[row + half]] for row in chosen]
        contact_sheet(sheet).save(picture)
        return [numbers, curve, picture]


def draw_roc(roc: RocCurve, file: Path) -> None:
    """The curve, the point of equal errors, and chance."""
    from matplotlib.figure import Figure  # slow to import; without pyplot it draws with Agg

    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    equal = equal_error_rate(roc)
    axes.plot(
        roc.false_positive_rate, roc.true_positive_rate, "-", color="#0072b2", linewidth=2,
        label=f"pairs, AUC {area_under_curve(roc):.3f}",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], ":", color="0.4", label="chance, AUC 0.5")
    axes.plot(equal, 1 - equal, "o", color="#d55e00", label=f"equal error rate {equal:.3f}")
    axes.set(
        title="are two images of one class?",
        aspect="equal",
        xlabel="false positive rate: share of pairs unlike called alike",
        ylabel="true positive rate: share of pairs alike called alike",
    )
    axes.grid(color="0.9")
    axes.legend(loc="lower right")
    figure.savefig(file)


def _tiles(
    run: FinishedRun,
    pairs: NDArray[np.int64],
    distances: NDArray[np.float64],
    alike: NDArray[np.bool_],
    threshold: float,
) -> list[tuple[Tile, Tile]]:
    """Two tiles for every pair of ids (P, 2)."""
    records = run.records
    tiles = []
    for pair, distance, is_alike in zip(pairs, distances, alike, strict=True):
        words = f"distance {distance:.3f}", "alike" if is_alike else "unlike"
        right = bool((distance <= threshold) == is_alike)
        first, second = (
            Tile(records.paths[row], (records.class_names[records.labels[row]], word), right)
            for row, word in zip(pair, words, strict=True)
        )
        tiles.append((first, second))
    return tiles
