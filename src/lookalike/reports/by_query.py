"""The values of every query in the runs of several settings, side by side."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lookalike.reports.cells import Setting

Table = NDArray[np.float64]  # (S, Q), the values of a setting's seeds, each the mean of its folds
Repetition = tuple[Hashable, Hashable]  # (seed, fold)


def tables_of(
    settings: Sequence["Setting"],
    metric: str,
    seeds: Sequence[Hashable],
    folds: Sequence[Hashable],
) -> list[Table] | None:
    """Values by seed and query, (S, Q) a setting; NaN for a seed without all of its folds.

    None where a run kept no values, or where runs asked different queries.

    Args:
        settings: to be compared.
        metric: such as "test/map_at_r".
        seeds: S of them.
        folds: that count.
    """
    asked: list[NDArray[np.int64]] = []
    tables = []
    for setting in settings:
        found: dict[Repetition, list[NDArray[np.float32]]] = defaultdict(list)
        for run in setting.runs:
            if run.fold not in folds or run.number(metric) is None:
                continue
            kept = run.query_values(metric)
            if kept is None:
                return None
            asked.append(kept[0])
            if not np.array_equal(asked[0], asked[-1]):
                return None
            found[run.seed, run.fold].append(kept[1])
        tables.append([_of_seed(found, seed, folds) for seed in seeds])
    if not asked:
        return None
    nothing = np.full(len(asked[0]), np.nan)
    return [np.stack([nothing if row is None else row for row in table]) for table in tables]


def _of_seed(
    found: dict[Repetition, list[NDArray[np.float32]]],
    seed: Hashable,
    folds: Sequence[Hashable],
) -> NDArray[np.float64] | None:
    """The mean over the folds, (Q,); None if one is missing."""
    if any((seed, fold) not in found for fold in folds):
        return None
    of_folds = [np.mean(found[seed, fold], axis=0, dtype=np.float64) for fold in folds]
    return np.mean(of_folds, axis=0)
