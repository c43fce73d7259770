"""Verdicts in words: one of a run that has ended, and those of many saved runs."""

from collections import defaultdict
from collections.abc import Sequence

from lookalike.evaluation.verdict import Finding, Verdict
from lookalike.reports.saved import SavedRun
from lookalike.reports.tables import title

NAMED = 3  # runs that are named, at most


def sentence(verdict: Verdict) -> str:
    """The verdict with its numbers.

    >>> print(sentence(Verdict("map_at_r", 0.5, 0.75, 0.2, 0.3, 0.0001, "better")))
    Test MAP@R is significantly better than that of the frozen backbone: 0.7500 and 0.5000, \
difference +0.2500 (95 % interval +0.2000 to +0.3000), p = 0.0001.
    """
    v = verdict
    is_how = {
        "better": "significantly better than",
        "worse": "significantly worse than",
        "not significantly different": "not significantly different from",
    }[v.finding]
    return (
        f"Test {title(v.metric)} is {is_how} that of the frozen backbone: {v.trained:.4f} and "
        f"{v.frozen:.4f}, difference {v.trained - v.frozen:+.4f} (95 % interval {v.low:+.4f} to "
        f"{v.high:+.4f}), p = {v.p:.2g}."
    )


def on_verdicts(runs: Sequence[SavedRun], metric: str) -> list[str]:
    """What the verdicts of saved runs on a metric come to, or nothing if there are none.

    Args:
        runs: finished ones.
        metric: its name, without that of the split.
    """
    named: dict[Finding, list[str]] = defaultdict(list)
    for run in runs:
        found = (run.metrics.get("verdict") or {}).get(metric)
        if found and run.trained:
            if len(runs) == 1:
                return [sentence(Verdict(metric, **found))]
            named[found["finding"]].append(run.name)
    if not named:
        return []
    counts = [f"{len(names)} {finding}{_which(names)}" for finding, names in named.items()]
    return [
        f"Beside the frozen backbone by test {title(metric)} (paired bootstrap over queries, "
        f"p < 0.05, each run by itself): {'; '.join(counts)}."
    ]


def _which(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if len(names) <= NAMED else ""
