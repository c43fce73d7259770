"""What a benchmark compares: cells, a product of choices, each with the same folds and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from lookalike.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Published:
    """A value from a paper, to stand beside ours.

    Args:
        cell: the cell beside which it stands, as the table writes it.
        values: by the name of the metric, such as {"recall_at_1": 0.683}.
        source: paper, table and row.
        protocol: data, split, input and backbone of the paper.
        same_protocol: whether that is ours too; the table marks it where it is not.
    """

    cell: str
    values: dict[str, float]
    source: str
    protocol: str
    same_protocol: bool


@dataclass(frozen=True)
class Benchmark:
    """Cells, folds and seeds, all of them lists of overrides of `lookalike train`.

    Args:
        every: overrides of every cell, one an entry.
        axes: a cell takes one entry of each; an entry is a line of overrides, as on a command line,
            such as "loss=contrastive miner=pair_margin".
        folds: values of data.fold.
        seeds: values of seed; three or more, or intervals are wide.
        metrics: test metrics of the table; the first one orders it.
        reference: the cell that all others are compared with; null compares with the best.
        published: what papers say, as arguments of `Published`.

    Raises:
        InputError: an axis or a list is empty, or the reference or a paper names no cell.
    """

    every: Sequence[str]
    axes: Sequence[Sequence[str]]
    folds: Sequence[int] = (0,)
    seeds: Sequence[int] = (0, 1, 2)
    metrics: Sequence[str] = ("recall_at_1", "map_at_r")
    reference: str | None = None
    published: Sequence[dict[str, Any]] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not all([self.axes, *self.axes, self.folds, self.seeds, self.metrics]):
            raise InputError("a benchmark needs axes with entries, folds, seeds and metrics")
        labels = [" ".join(cell) for cell in self.cells()]
        for name in self._named():
            if name not in labels:
                hint = did_you_mean(name, labels)
                raise InputError(f"the benchmark has no cell {name!r}.{hint}")

    def cells(self) -> list[tuple[str, ...]]:
        """One entry of every axis, in every combination."""
        return list(product(*self.axes))

    def papers(self) -> list[Published]:
        """What papers say, one an entry."""
        return [Published(**entry) for entry in self.published]

    def _named(self) -> list[str]:
        """Cells that other keys refer to."""
        reference = [] if self.reference is None else [self.reference]
        return [*reference, *(paper.cell for paper in self.papers())]
