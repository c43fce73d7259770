"""What the tuning of an index measured: a table on the terminal, and recall over latency."""

from pathlib import Path
from typing import Any

from lookalike.inference.index_tuning import Curve
from lookalike.reports.style import GRID, QUIET, figure, marker, of_line, save_figure
from lookalike.reports.tables import Table, print_table


def print_curve(curve: Curve) -> None:
    """A line for each number of probes."""
    lines = [
        (
            f"{point.probes}{' *' if point.probes == curve.chosen else ''}",
            f"{point.recall:.4f}",
            f"{1000 * point.seconds:.2f}",
        )
        for point in curve.points
    ]
    exact = ("all", "1.0000", f"{1000 * curve.exact_seconds:.2f}")
    head = ("lists probed", f"recall@{curve.k}", "ms a query")
    print_table(Table(head, [*lines, exact], 1, [_chosen(curve)]))


def draw_curve(curve: Curve, file: Path) -> None:
    """Recall over the time of a query, with the point that was chosen."""
    picture = figure(6, 4)
    axes = picture.subplots()
    times = [1000 * point.seconds for point in curve.points]
    recalls = [point.recall for point in curve.points]
    axes.plot(times, recalls, **of_line(1), marker=marker(0).plot, label="lists probed")
    for point, time in zip(curve.points, times, strict=True):
        axes.annotate(str(point.probes), (time, point.recall), xytext=(4, -12),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    exact = [1000 * curve.exact_seconds]
    alone: dict[str, Any] = {"linestyle": "none", "marker": marker(1).plot, "color": "black"}
    axes.plot(exact, [1.0], label="all items", **alone)
    axes.axhline(curve.target, color=QUIET, linewidth=0.8, linestyle="dotted", label="wanted")
    axes.margins(y=0.12)
    axes.set(xscale="log", xlabel="milliseconds a query", ylabel=f"recall@{curve.k}",
             title=_chosen(curve))  # fmt: skip
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(color=GRID)
    axes.legend(loc="lower right")
    save_figure(picture, file)


def _chosen(curve: Curve) -> str:
    if not curve.chosen:
        return "All items are compared: exact, and nothing to tune. Try kind=ivf."
    found = next(point for point in curve.points if point.probes == curve.chosen)
    reached = "reaches" if found.recall >= curve.target else "does not reach"
    return f"{curve.chosen} lists probed: recall {found.recall:.4f} {reached} {curve.target:g}"
