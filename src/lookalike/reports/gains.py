"""What training gained: which settings are better than before it, and which are worse."""

from collections.abc import Sequence

import numpy as np

from lookalike.evaluation.statistics import per_seed
from lookalike.reports.cells import (
    ALPHA,
    NAMED_TESTS,
    TESTED,
    Line,
    Setting,
    Test,
    differences,
    direction,
    grids_of,
    shared_folds,
)
from lookalike.reports.tables import title

NAMED = 6  # settings that are named, at most
WORSE = "↓"


def gains(lines: Sequence[Line], metric: str) -> dict[str, bool]:
    """By label of each trained setting whether it is significantly better than the starting point.

    The test is that of the table, Holm-corrected for the pairs with the starting point. Nothing is
    told if there is not exactly one, or no two seeds repeat a setting.
    """
    return _gains_by(lines, metric)[0]


def on_gains(lines: Sequence[Line], metric: str) -> list[str]:
    """A sentence for below a table, or none."""
    found, test = _gains_by(lines, metric)
    if not found:
        return []
    others = [label for label, better in found.items() if not better]
    count = f"{len(found) - len(others)} of {len(found)} settings"
    named = f"; not {', '.join(others)}" if 0 < len(others) <= NAMED else ""
    return [
        f"Significantly better than before training by {title(metric)} (p <= {ALPHA}, "
        f"{NAMED_TESTS[test]}, Holm-corrected for the pairs with it): {count}{named}."
    ]


def on_frozen(lines: Sequence[Line]) -> list[str]:
    """A sentence with the scores of the frozen backbone; none where they differ between runs."""
    told = []
    for metric in lines[0].scores:
        runs = [run for line in lines for run in line.setting.runs]
        numbers = (run.number(f"frozen/{metric}") for run in runs)
        found = {f"{number:.4f}" for number in numbers if number is not None}
        if len(found) == 1:
            told.append(f"{title(metric)} {found.pop()}")
    return [f"The frozen backbone, without training and head: {', '.join(told)}."] if told else []


def _gains_by(lines: Sequence[Line], metric: str) -> tuple[dict[str, bool], Test]:
    """See `gains`, and the test that tells."""
    starts = [line.setting for line in lines if not line.setting.trained]
    trained = [line.setting for line in lines if line.setting.trained]
    settings = [*starts, *trained]
    if len(starts) != 1 or not 1 <= len(trained) <= TESTED or not shared_folds(settings, metric):
        return {}, "t-test"
    scores = direction(metric) * np.stack(grids_of(settings, metric))  # (1 + T, S, F)
    of_seeds = [per_seed(grid - scores[0]) for grid in scores[1:]]
    if max(map(len, of_seeds)) < 2:
        return {}, "t-test"
    p_values, test = differences(settings, metric, scores, 0)
    rows = zip(trained, of_seeds, p_values[1:].tolist(), strict=True)
    return {setting.label: p <= ALPHA and bool(d.mean() > 0) for setting, d, p in rows}, test


def worse_than_start(lines: Sequence[Line]) -> set[str]:
    """Labels of the trained settings whose best epoch validates worse than their starting point.

    A run is compared with what it measured before training, or else with the starting point of the
    same seed and fold; a setting by the mean over its runs.
    """
    starts = [line.setting for line in lines if not line.setting.trained]
    trained = [line.setting for line in lines if line.setting.trained]
    start = starts[0] if len(starts) == 1 else None
    return {setting.label for setting in trained if _mean_gain(setting, start) < 0}


def on_worse(lines: Sequence[Line]) -> list[str]:
    """A sentence on the mark, or none."""
    if not worse_than_start(lines):
        return []
    return [
        f"{WORSE}: its best epoch is, on the validation classes, worse than the network before "
        "training."
    ]


def _mean_gain(setting: Setting, start: Setting | None) -> float:
    """By the metric that chose the checkpoints, positive if training helped; 0 if not known."""
    found = []
    for run in setting.runs:
        metric = f"val/{run.config.get('evaluation.monitor')}"
        before = run.number(f"epoch_0/{metric}")
        if before is None and start is not None:
            before = start.numbers(metric).get((run.seed, run.fold))
        after = run.number(metric)
        if before is not None and after is not None:
            found.append(direction(metric) * (after - before))
    return float(np.mean(found)) if found else 0.0
