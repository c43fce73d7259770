"""Runs put together that can be compared, because they were tested on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike.reports.cells import Line, best_first, compare, direction
from lookalike.reports.comparison import by_test, differing, settings
from lookalike.reports.saved import SavedRun

ALSO = ("recall_at_1", "map_at_r", "r_precision", "map")  # shown beside the metric asked for


@dataclass(frozen=True, eq=False)
class Part:
    """Runs tested on the same images, with what differs between them.

    Args:
        title: what these images are.
        runs: the best by validation first.
        keys: hyper-parameters in which they differ.
        metrics: that some of them have, those of validation first.
        lines: their settings, ordered by validation.
    """

    title: str
    runs: list[SavedRun]
    keys: list[str]
    metrics: list[str]
    lines: list[Line]

    @property
    def table_lines(self) -> list[Line]:
        """Lines with the metrics of tables alone."""
        return [
            Line(line.setting, {n: line.scores[n] for n in self.metrics}) for line in self.lines
        ]


def parts_of(runs: Sequence[SavedRun], metric: str) -> list[Part]:
    """Each set of images on which runs were tested, in order of appearance.

    Args:
        metric: that stands first, without its split.
    """
    return [_part(title, together, metric) for title, together in by_test(runs).items()]


def _part(title: str, runs: Sequence[SavedRun], metric: str) -> Part:
    keys = differing(runs)
    chosen = (f"val/{metric}", f"test/{metric}")  # by the test only where nothing was validated
    names = [f"{split}/{n}" for split in ("val", "test") for n in dict.fromkeys((metric, *ALSO))]
    found = [n for n in names if any(run.number(n) is not None for run in runs)]
    metrics = found or [chosen[-1]]
    scored = compare(settings(runs, keys), list(dict.fromkeys((*metrics, *chosen))))
    ordered = sorted(runs, key=lambda run: _rank(run, chosen))
    return Part(title, ordered, keys, metrics, best_first(scored, chosen))


def _rank(run: SavedRun, metrics: Sequence[str]) -> tuple[bool, float]:
    """The best by the first metric that a run has is lowest; runs without any come last."""
    for metric in metrics:
        if (value := run.number(metric)) is not None:
            return False, -direction(metric) * value
    return True, 0.0
