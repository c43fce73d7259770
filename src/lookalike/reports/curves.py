"""Curves of a run: training loss and validation scores over epochs, as a picture."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.reports.finished import FinishedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito, 2008, "Color Universal Design": told apart by the colour-blind
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SEVERAL = 4  # epochs from which on the training loss is drawn as the mean of each
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # and told apart in black and white


@dataclass(frozen=True, eq=False)
class Curve:
    """epochs (P,) float64, trained until each point, ascending; values (P,) float64."""

    epochs: NDArray[np.float64]
    values: NDArray[np.float64]


class Curves:
    """curves.png: losses above, validation scores below, the chosen epoch marked.

    Losses are those of training, and what of the validation is better the lower it is. Those of
    training are single batches, or in runs of several epochs means of each.
    """

    def write(self, run: FinishedRun) -> list[Path]:
        from matplotlib.figure import Figure  # slow to import; without pyplot it draws with Agg

        curves = read_curves(run.folder / "metrics.csv")
        several = max(curve.epochs[-1] for curve in curves.values()) >= SEVERAL
        if several:
            curves |= {n: by_epoch(c) for n, c in curves.items() if n.startswith("train/")}
        best_of = {f"val/{name}": best for name, best in run.plan.directions().items()}
        panels = (
            {n: c for n, c in curves.items() if n.startswith("train/") or best_of.get(n) == "min"},
            {n: c for n, c in curves.items() if best_of.get(n) == "max"},
        )
        figure = Figure(figsize=(8, 7), dpi=120, layout="constrained")
        losses, scores = figure.subplots(2, 1, sharex=True)
        for axes, lines in zip((losses, scores), panels, strict=True):
            _draw(axes, lines, ("train/loss", run.plan.monitored))
            axes.axvline(run.epochs, color="0.5", linewidth=1)
            if run.plan.monitored in lines:
                best = lines[run.plan.monitored]
                chosen = best.epochs == run.epochs  # nowhere, if an earlier run was resumed
                axes.plot(best.epochs[chosen], best.values[chosen], "k*", markersize=13)
        of = "mean of an epoch" if several else "of one batch"
        losses.set(title="losses", ylabel=f"loss (train: {of})")
        scores.set(title="validation scores", ylabel="in [0, 1]")
        scores.set_xlabel(f"epochs trained; {run.plan.monitor} chose epoch {run.epochs} (star)")
        scores.xaxis.get_major_locator().set_params(integer=True)
        file = run.folder / "curves.png"
        figure.savefig(file)
        return [file]


def read_curves(file: Path) -> dict[str, Curve]:
    """Every column of Lightning's metrics.csv that begins with "train/" or "val/".

    What was measured before training, "epoch_0/val/...", becomes the first point of its curve.
    """
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    steps_per_epoch = _steps_per_epoch(rows)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for column, text in row.items():
            name = column.removeprefix("epoch_0/")
            if not text or not name.startswith(("train/", "val/")):
                continue
            if name != column:
                position = 0.0
            elif name.startswith("val/"):
                position = int(row["epoch"]) + 1.0
            else:
                position = (int(row["step"]) + 1) / steps_per_epoch
            points.setdefault(name, []).append((position, float(text)))
    return {
        name: Curve(*np.array(sorted(pairs), dtype=np.float64).T) for name, pairs in points.items()
    }


def by_epoch(curve: Curve) -> Curve:
    """The mean of the points in each epoch, at its end."""
    ends = np.ceil(curve.epochs - 1e-6)  # a division made them
    epochs = np.unique(ends)
    return Curve(epochs, np.array([curve.values[ends == end].mean() for end in epochs]))


def _steps_per_epoch(rows: list[dict[str, str]]) -> float:
    """From the last validation: as many steps were done as its row says, in as many epochs."""
    validated = [row for row in rows if any(v and k.startswith("val/") for k, v in row.items())]
    return (int(validated[-1]["step"]) + 1) / (int(validated[-1]["epoch"]) + 1)


def _draw(axes: "Axes", curves: dict[str, Curve], main: Sequence[str]) -> None:
    """All curves into one panel, each with its own colour and line; the main ones are thicker."""
    looks = zip(cycle(COLOURS), cycle(STYLES), strict=False)
    names = sorted(curves, key=lambda name: name not in main)
    for name, (colour, style) in zip(names, looks, strict=False):
        few = "o" if len(curves[name].epochs) <= 40 else None  # one point alone makes no line
        axes.plot(
            curves[name].epochs, curves[name].values, marker=few, markersize=3, color=colour,
            linestyle=style, linewidth=2.2 if name in main else 1.2, label=name,
        )  # fmt: skip
    axes.grid(color="0.9")
    if curves:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
