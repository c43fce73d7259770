"""Pairs: how well the distance of two test images tells whether they show the same class."""

import json
from collections.abc import Mapping
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
from lookalike.retrieval.embeddings import Embeddings


class Pairs:
    """verification.json and roc.png of seeded test pairs, and pairs.png, some of them.

    The same pairs are measured before training too, if the plan measures epoch 0. On the picture
    a pair is right if the threshold of the best accuracy judges it rightly.

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
        pairs = draw_pairs(np.arange(len(tested)), tested.labels, rng, self.per_class)  # rows
        alike = np.equal(*tested.labels[pairs].T)
        distances = pair_distances(tested, pairs)
        roc = roc_curve(distances, alike)
        metrics = verification_metrics(roc)
        curves = {"trained": roc}
        if run.untrained is not None:
            curves["before training"] = roc_curve(pair_distances(run.untrained, pairs), alike)
            start = verification_metrics(curves["before training"])
            metrics |= {f"epoch_0/{name}": value for name, value in start.items()}

        numbers, curve, picture = (
            run.folder / name for name in ("verification.json", "roc.png", "pairs.png")
        )
        numbers.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        draw_roc(curves, curve)
        tiles = _tiles(run, tested.ids[pairs], distances, alike, metrics["threshold"])
        half = len(pairs) // 2  # first those alike, by class
        of_classes = np.arange(0, half, self.per_class)
        chosen = np.sort(rng.choice(of_classes, min(self.shown, len(of_classes)), replace=False))
        sheet = [[*tiles[row], None, *tiles[row + half]] for row in chosen]
        contact_sheet(sheet).save(picture)
        return [numbers, curve, picture]


def pair_distances(embeddings: Embeddings, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Euclidean distances of pairs of rows (P, 2), (P,) in [0, 2]."""
    first, second = embeddings.vectors[pairs].astype(np.float64).swapaxes(0, 1)  # (P, D) each
    return np.linalg.norm(first - second, axis=1)


def draw_roc(curves: Mapping[str, RocCurve], file: Path) -> None:
    """Curves by name, at most three, with their points of equal errors; and chance."""
    from matplotlib.figure import Figure  # slow to import; without pyplot it draws with Agg

    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    looks = (("#0072b2", "-"), ("#d55e00", "--"), ("#000000", "-."))
    for (name, roc), (colour, style) in zip(curves.items(), looks, strict=False):
        equal = equal_error_rate(roc)
        label = f"{name}: AUC {area_under_curve(roc):.3f}, equal error rate {equal:.3f} (dot)"
        axes.plot(roc.false_positive_rate, roc.true_positive_rate, style, color=colour, label=label)
        axes.plot(equal, 1 - equal, "o", color=colour)
    axes.plot([0, 1], [0, 1], ":", color="0.4", label="chance: AUC 0.5")
    axes.set(
        title="are two images of one class?",
        aspect="equal",
        xlabel="false positive rate: share of pairs unlike called alike",
        ylabel="true positive rate: share of pairs alike called alike",
    )
    axes.grid(color="0.9")
    axes.legend(loc="lower right", fontsize="small")
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
    for pair, distance, is_alike in zip(pairs.tolist(), distances, alike, strict=True):
        words = f"distance {distance:.3f}", "alike" if is_alike else "unlike"
        right = bool((distance <= threshold) == is_alike)
        first, second = (
            Tile(records.paths[row], (records.class_names[records.labels[row]], word), right)
            for row, word in zip(pair, words, strict=True)
        )
        tiles.append((first, second))
    return tiles
