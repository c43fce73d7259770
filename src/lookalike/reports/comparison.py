"""Runs compared: in which hyper-parameters they differ, and which of them repeat one setting.

Pure functions of runs. Runs that differ only in `seed` and `data.fold` repeat one setting.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from lookalike.reports.cells import Setting
from lookalike.reports.saved import REPETITIONS, SavedRun


def value_of(run: SavedRun, key: str) -> Any:
    """Of a group its choice, of a dotted name its scalar; null where the run has neither."""
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


def _differs(key: str, runs: Sequence[SavedRun], owners: Sequence[str]) -> bool:
    """Whether runs with the same owners have different values of a key."""
    seen: dict[tuple[Hashable, ...], set[Any]] = defaultdict(set)
    for run in runs:
        seen[tuple(value_of(run, owner) for owner in owners)].add(run.config.get(key))
    return any(len(values) > 1 for values in seen.values())


def _in_order(parts: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part))
