"""Curves of a run: training loss and validation scores over epochs, as a picture."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.reports.finished import FinishedRun
from lookalike.reports.style import GRID, QUIET, figure, marker, of_line, save_figure
from lookalike.reports.tables import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEVERAL = 4  # epochs from which on the training loss is drawn as the mean of each
FEW = 40  # points of a curve up to which they are marked


@dataclass(frozen=True, eq=False)
class Curve:
    """A logged value.

    Args:
        epochs: (P,) float64, trained until each point, ascending.
        values: (P,) float64.
    """

    epochs: NDArray[np.float64]
    values: NDArray[np.float64]


class Curves:
    """curves.png: losses above, validation scores below, the chosen epoch marked.

    Losses are those of training, and what of the validation is better the lower it is. Those of
    training are single batches, or in runs of several epochs means of each.
    """

    def write(self, run: FinishedRun) -> list[Path]:
        """Draw the run's metrics.csv; the path of the picture."""
        curves = read_curves(run.folder / "metrics.csv")
        several = max(curve.epochs[-1] for curve in curves.values()) >= SEVERAL
        if several:
            curves |= {n: by_epoch(c) for n, c in curves.items() if n.startswith("train/")}
        picture = figure(8, 7)
        losses, scores = picture.subplots(2, 1, sharex=True)
        for axes, lines in zip((losses, scores), _panels(curves, run), strict=True):
            _draw(axes, lines, ("train/loss", run.plan.monitored))
            _mark_chosen(axes, lines, run)
        of = "mean of an epoch" if several else "of one batch"
        losses.set(title="losses", ylabel=f"loss (train: {of})")
        scores.set(title="validation scores", ylabel="in [0, 1]")
        start = "; epoch 0 was better" if _start_was_better(curves, run) else ""
        scores.set_xlabel(
            f"epochs trained; {title(run.plan.monitor)} chose epoch {run.epochs} (star){start}"
        )
        scores.xaxis.get_major_locator().set_params(integer=True)
        file = run.folder / "curves.png"
        save_figure(picture, file)
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
        for name, epoch, value in _points(row, steps_per_epoch):
            points.setdefault(name, []).append((epoch, value))
    return {
        name: Curve(*np.array(sorted(pairs), dtype=np.float64).T) for name, pairs in points.items()
    }


def by_epoch(curve: Curve) -> Curve:
    """The mean of the points in each epoch, at its end."""
    ends = np.ceil(curve.epochs - 1e-6)  # a division made them
    epochs = np.unique(ends)
    return Curve(epochs, np.array([curve.values[ends == end].mean() for end in epochs]))


def _points(row: dict[str, str], steps_per_epoch: float) -> Iterator[tuple[str, float, float]]:
    """(curve, epochs trained, value) of a line of metrics.csv."""
    for column, text in row.items():
        name = column.removeprefix("epoch_0/")
        if not text or not name.startswith(("train/", "val/")):
            continue
        if name != column:
            epoch = 0.0
        elif name.startswith("val/"):
            epoch = int(row["epoch"]) + 1.0
        else:
            epoch = (int(row["step"]) + 1) / steps_per_epoch
        yield name, epoch, float(text)


def _steps_per_epoch(rows: list[dict[str, str]]) -> float:
    """From the last validation: as many steps were done as its row says, in as many epochs."""
    validated = [row for row in rows if any(v and k.startswith("val/") for k, v in row.items())]
    return (int(validated[-1]["step"]) + 1) / (int(validated[-1]["epoch"]) + 1)


def _panels(curves: dict[str, Curve], run: FinishedRun) -> tuple[dict[str, Curve], ...]:
    """Losses, and validation scores that are better the higher they are."""
    best_of = {f"val/{name}": best for name, best in run.plan.directions().items()}
    return (
        {n: c for n, c in curves.items() if n.startswith("train/") or best_of.get(n) == "min"},
        {n: c for n, c in curves.items() if best_of.get(n) == "max"},
    )


def _draw(axes: "Axes", curves: dict[str, Curve], main: Sequence[str]) -> None:
    """All curves into one panel, each with its own look; the main ones come first, and thicker."""
    for look, name in enumerate(sorted(curves, key=lambda name: name not in main)):
        curve = curves[name]
        few = len(curve.epochs) <= FEW  # one point alone makes no line
        axes.plot(
            curve.epochs, curve.values, marker=marker(look).plot if few else None, markersize=4,
            linewidth=2.2 if name in main else 1.2, label=title(name), **of_line(look),
        )  # fmt: skip
    axes.grid(color=GRID)
    if curves:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _mark_chosen(axes: "Axes", curves: dict[str, Curve], run: FinishedRun) -> None:
    """A line at the chosen epoch, and a star on the curve that chose it."""
    axes.axvline(run.epochs, color=QUIET, linewidth=1)
    if run.plan.monitored in curves:
        best = curves[run.plan.monitored]
        chosen = best.epochs == run.epochs  # nowhere, if an earlier run was resumed
        axes.plot(best.epochs[chosen], best.values[chosen], "k*", markersize=13)


def _start_was_better(curves: dict[str, Curve], run: FinishedRun) -> bool:
    """By the score that chose, which chooses among the epochs that trained."""
    curve = curves.get(run.plan.monitored)
    if curve is None:
        return False
    start, chosen = (curve.values[curve.epochs == epoch] for epoch in (0, run.epochs))
    better = np.greater if run.plan.mode == "max" else np.less
    return bool(len(start) and len(chosen) and better(start[0], chosen[0]))
