"""Runs compared: which hyper-parameters differ, and what the repetitions of a setting say together.

Pure functions of runs. Runs that differ only in `seed` and `data.fold` repeat one setting.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike.evaluation.statistics import Interval, mean_interval
from lookalike.reports.saved import SavedRun

SEED, FOLD = "seed", "data.fold"
REPETITIONS = (SEED, FOLD)


@dataclass(frozen=True, eq=False)
class Setting:
    """values: of the hyper-parameters that differ between settings; runs: its repetitions."""

    values: dict[str, Any]
    runs: tuple[SavedRun, ...]

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={shown(value)}" for key, value in self.values.items())

    @property
    def short(self) -> str:
        """The values alone, for charts whose caption names the keys."""
        return ", ".join(shown(value) for value in self.values.values())


def value_of(run: SavedRun, key: str) -> Any:
    """Of a group its choice, of a dotted name its scalar; None where the run has neither."""
    return run.choices[key] if key in run.choices else run.config.get(key)


def differing(runs: Sequence[SavedRun]) -> list[str]:
    """Groups and dotted names in which runs differ, groups first.

    What only follows from another choice is left out: `loss.margin` differs where two runs with
    the same `loss` have different ones, not where only one of two losses has a margin.
    Starting points don't count where others were trained.
    """
    runs = [run for run in runs if run.trained] or runs
    groups = _in_order(run.choices for run in runs)
    keys = [key for key in _in_order(run.config for run in runs) if key not in groups]
    chosen = [group for group in groups if len({value_of(run, group) for run in runs}) > 1]
    return [
        key
        for key in chosen + keys
        if not key.endswith("_target_")
        if key in chosen or _differs(key, runs, [part for part in chosen if part in key.split(".")])
    ]


def settings(runs: Sequence[SavedRun], keys: Sequence[str]) -> list[Setting]:
    """Runs put together that agree in all keys but the repetitions, in order of appearance."""
    named = [key for key in keys if key not in REPETITIONS]
    together: dict[tuple[Hashable, ...], list[SavedRun]] = defaultdict(list)
    for run in runs:
        together[tuple(value_of(run, key) for key in named)].append(run)
    return [
        Setting(dict(zip(named, values, strict=True)), tuple(repeated))
        for values, repeated in together.items()
    ]


def interval(setting: Setting, metric: str) -> Interval:
    """The mean of a metric over seeds with its 95 % t-interval.

    Folds are averaged first, for they share images; a seed with fewer folds than another is left
    out, and runs that repeat both the seed and the fold are averaged too.
    """
    scores: dict[Any, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in setting.runs:
        value = run.number(metric)
        if value is not None:
            scores[run.config.get(SEED)][run.config.get(FOLD)].append(value)
    folds = Counter(frozenset(of_seed) for of_seed in scores.values())
    complete = max(folds, key=lambda found: (len(found), folds[found]), default=frozenset())
    means = [
        np.mean([np.mean(values) for values in of_seed.values()])
        for of_seed in scores.values()
        if frozenset(of_seed) == complete
    ]
    return mean_interval(np.array(means, np.float64))


def monitored(runs: Sequence[SavedRun]) -> str:
    """The metric that chose most of the checkpoints, without its split."""
    named = Counter(
        run.config["evaluation.monitor"] for run in runs if "evaluation.monitor" in run.config
    )
    return named.most_common(1)[0][0] if named else "map_at_r"


def comparable(runs: Sequence[SavedRun]) -> bool:
    """Whether all were tested on as many queries of as many images of one data set."""
    tests = {
        (
            run.choices.get("data"),
            run.number("test/queries"),
            run.metrics.get("counts", {}).get("test_images"),
        )
        for run in runs
    }
    return len(tests) == 1


def shown(value: Any) -> str:
    """A value of a configuration as it is written there."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differs(key: str, runs: Sequence[SavedRun], owners: Sequence[str]) -> bool:
    seen: dict[tuple[Hashable, ...], set[Any]] = defaultdict(set)
    for run in runs:
        seen[tuple(value_of(run, owner) for owner in owners)].add(run.config.get(key))
    return any(len(values) > 1 for values in seen.values())


def _in_order(parts: Any) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part))
