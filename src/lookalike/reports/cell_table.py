"""The table of a comparison, with its cells as text or as numbers, and what its signs mean."""

from collections.abc import Sequence
from math import isnan

import numpy as np

from lookalike.reports.cells import (
    ALPHA,
    ENOUGH,
    NAMED_TESTS,
    NOT_SIGNIFICANT,
    TESTED,
    Line,
    Score,
    Setting,
    Test,
    shared_folds,
    shown,
)
from lookalike.reports.gains import WORSE, on_frozen, on_gains, on_worse, worse_than_start
from lookalike.reports.saved import FOLD, REPETITIONS, SEED, SavedRun
from lookalike.reports.tables import Table, title

COSTS = (
    "wall_time_seconds",
    "training_seconds",
    "images_per_second",
    "parameters",
    "peak_memory_mebibytes",
)
# columns beside the mean of a score
OF_A_SCORE = ("half_width", "lowest", "highest", "seeds", "p", "test", "p_t")


def score_table(lines: Sequence[Line], notes: Sequence[str] = (), by_key: bool = False) -> Table:
    """A line a setting: what was chosen, its scores, how many runs, and their minutes.

    Args:
        lines: one or more, all with the same metrics.
        notes: below the table.
        by_key: whether each hyper-parameter has a column of its own.
    """
    by_key = by_key and bool(lines[0].setting.values)
    keys = list(lines[0].setting.values) if by_key else [""]
    beside = list(dict.fromkeys(title for line in lines for title in line.setting.beside))
    metrics = [title(metric) for metric in lines[0].scores]
    worse = worse_than_start(lines)
    return Table(
        [*keys, *metrics, *beside, "runs", "minutes a run"],
        [_texts(line, beside, by_key, line.setting.label in worse) for line in lines],
        len(keys),
        notes,
    )


def number_table(lines: Sequence[Line]) -> Table:
    """A line a setting, in full: of each score the mean, the interval, the range, seeds and p."""
    metrics = list(lines[0].scores)
    columns = [(metric, name) for metric in metrics for name in ("mean", *OF_A_SCORE)]
    heads = [metric if name == "mean" else f"{metric}/{name}" for metric, name in columns]
    body = []
    for line in lines:
        numbers = [_written(getattr(line.scores[metric], name)) for metric, name in columns]
        runs = [str(len(line.setting.runs)), _minutes(line.setting, 2)]
        body.append([_called(line.setting), *numbers, *runs])
    return Table(["cell", *heads, "runs", "minutes_a_run"], body)


def run_table(settings: Sequence[Setting], metrics: Sequence[str]) -> Table:
    """A line a run, in full: its setting, seed, fold, scores, costs and folder.

    A column that no run fills is left out.
    """
    keys = list(settings[0].values) or ["cell"]
    runs = [(setting, run) for setting in settings for run in setting.runs]
    columns = [n for n in (*metrics, *COSTS) if any(run.number(n) is not None for _, run in runs)]
    head = [*keys, SEED, FOLD, *columns, "folder"]
    return Table(head, [_of_run(setting, run, columns) for setting, run in runs], len(keys))


def explained(
    lines: Sequence[Line], reference: str | None = None, metric: str | None = None
) -> list[str]:
    """Sentences on the signs and the rules of a table.

    Args:
        lines: of `cells.compare`.
        reference: the label that it was given.
        metric: by which folds and the gain of training are told; null takes the first.
    """
    scores = [score for line in lines for score in line.scores.values()]
    first = metric or next(iter(lines[0].scores))
    return [
        *_on_spread(scores),
        *_on_significance(lines, scores, reference),
        *on_frozen(lines),
        *on_gains(lines, first),
        *on_worse(lines),
        *_on_folds([line.setting for line in lines], first),
    ]


def _texts(line: Line, beside: Sequence[str], by_key: bool, worse: bool) -> list[str]:
    setting = line.setting
    named = [shown(v) for v in setting.values.values()] if by_key else [_called(setting)]
    if worse:
        named[0] += f" {WORSE}"
    further = [setting.beside.get(title, "") for title in beside]
    return [*named, *map(str, line.scores.values()), *further, str(len(setting.runs)),
            _minutes(setting, 1)]  # fmt: skip


def _called(setting: Setting) -> str:
    return setting.label or "every run"


def _minutes(setting: Setting, digits: int) -> str:
    """Of a run, on average."""
    seconds = [s for run in setting.runs if (s := run.number("wall_time_seconds")) is not None]
    return f"{np.mean(seconds) / 60:.{digits}f}" if seconds else "-"


def _of_run(setting: Setting, run: SavedRun, columns: Sequence[str]) -> list[str]:
    named = [shown(value) for value in setting.values.values()] or [_called(setting)]
    repetition = [shown(run.config.get(key)) for key in REPETITIONS]
    return [*named, *repetition, *(_written(run.number(n)) for n in columns), str(run.folder)]


def _written(value: float | str | None) -> str:
    """All digits, or text, or nothing."""
    if isinstance(value, str):
        return value
    return "" if value is None or isnan(value) else repr(value)


def _on_spread(scores: Sequence[Score]) -> list[str]:
    notes = []
    if any(score.seeds >= ENOUGH for score in scores):
        notes.append("± is the 95 % t-interval over seeds, each the mean of its folds.")
    if any(1 < score.seeds < ENOUGH for score in scores):
        notes.append(
            f"In brackets: the lowest and the highest of two seeds; {ENOUGH} or more give an "
            "interval."
        )
    return notes


def _on_significance(
    lines: Sequence[Line], scores: Sequence[Score], reference: str | None
) -> list[str]:
    against = "the best" if reference is None else reference
    pairs = "all pairs" if reference is None else "the pairs with it"
    tests = _tests(lines)
    if tests:
        several = len(tests) > 1
        by = ", ".join(
            f"by {NAMED_TESTS[test]}" + (f" ({' and '.join(columns)})" if several else "")
            for test, columns in tests.items()
        )
        return [
            f"{NOT_SIGNIFICANT}: not significantly different from {against} (p > {ALPHA}), {by}, "
            f"Holm-corrected for {pairs}."
        ]
    if len(lines) > TESTED and any(score.seeds > 1 for score in scores):
        return [f"No differences are tested between more than {TESTED} settings."]
    return []


def _tests(lines: Sequence[Line]) -> dict[Test, list[str]]:
    """The tests that decided, with the titles of the columns in which they did."""
    found: dict[Test, list[str]] = {}
    for metric in lines[0].scores:
        for line in lines:
            test = line.scores[metric].test
            if test is not None and title(metric) not in found.setdefault(test, []):
                found[test].append(title(metric))
    return found


def _on_folds(settings: Sequence[Setting], metric: str) -> list[str]:
    """Which folds were not counted, because a setting lacks them."""
    present = {run.fold for s in settings for run in s.runs if run.number(metric) is not None}
    shared = shared_folds(settings, metric)
    if len(present) <= 1 or len(shared) == len(present):
        return []
    if not shared:
        return ["No fold is common to all settings: each shows its own, and nothing is tested."]
    counted = ", ".join(map(shown, shared))
    return [f"Counted are the folds that all settings have: {counted} of {len(present)}."]
