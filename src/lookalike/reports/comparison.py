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
    """Whether all were tested on the same images."""
    return len(by_test(runs)) == 1


def by_test(runs: Sequence[SavedRun]) -> dict[str, list[SavedRun]]:
    """Runs put together that were tested on the same images, by what these are.

    They are the same if there are as many queries, images and classes of one data set.
    """
    together: dict[str, list[SavedRun]] = defaultdict(list)
    for run in runs:
        together[_tested_on(run)].append(run)
    return dict(together)


def _tested_on(run: SavedRun) -> str:
    """Such as "cub: 5924 queries, 5924 images, 100 classes"; what is not known is left out."""
    counts = run.metrics.get("counts", {})
    numbers = {
        "queries": run.number("test/queries"),
        "images": counts.get("test_images"),
        "classes": counts.get("test_classes"),
    }
    told = [f"{number:.0f} {what}" for what, number in numbers.items() if number is not None]
    data = str(run.choices.get("data") or "a data set without a name")
    return f"{data}: {', '.join(told)}" if told else data


def _differs(key: str, runs: Sequence[SavedRun], owners: Sequence[str]) -> bool:
    """Whether runs with the same owners have different values of a key."""
    seen: dict[tuple[Hashable, ...], set[Any]] = defaultdict(set)
    for run in runs:
        seen[tuple(value_of(run, owner) for owner in owners)].add(run.config.get(key))
    return any(len(values) > 1 for values in seen.values())


def _in_order(parts: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part))
