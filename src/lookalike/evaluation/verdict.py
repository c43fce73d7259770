"""The verdict on a training: is it better than the frozen backbone, significantly?

The same queries are answered by both networks, so the paired bootstrap over queries decides
(Efron & Tibshirani, 1993; for rankings Sakai, SIGIR 2006). It speaks of this one training and of
other queries of these classes; for other seeds see `paired_difference`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.statistics import CONFIDENCE, paired_bootstrap

Finding = Literal["better", "worse", "not significantly different"]


@dataclass(frozen=True)
class Verdict:
    """One metric of a trained network beside that of its frozen backbone.

    metric: its name.
    frozen: mean over the queries, of the backbone as it began, without a head.
    trained: the same of the network that is tested.
    low: lower end of the 95 % interval of the difference, trained minus frozen.
    high: upper end.
    p: two-sided p-value, in (0, 1].
    finding: of the trained network, in words.
    """

    metric: str
    frozen: float
    trained: float
    low: float
    high: float
    p: float
    finding: Finding

    def facts(self) -> dict[str, Any]:
        """For metrics.json."""
        return {name: value for name, value in asdict(self).items() if name != "metric"}


def judged_metrics(plan: Evaluation) -> list[str]:
    """The names of the metrics by which a training is judged: the monitored one first.

    A classifier's metrics are left out, as a frozen backbone has no classifier.

    >>> judged_metrics(Evaluation())
    ['map_at_r', 'recall_at_1']
    """
    monitored = [] if plan.monitors_classifier or plan.monitor in ("nmi", "ami") else [plan.monitor]
    nearest = "recall_at_1" if 1 in plan.k else "precision_at_1"  # their values are the same
    return list(dict.fromkeys([*monitored, "map_at_r", nearest]))


def judge(
    names: Sequence[str],
    frozen: Mapping[str, NDArray[np.float64]],
    trained: Mapping[str, NDArray[np.float64]],
) -> list[Verdict]:
    """A verdict on each metric, of which a higher value is better.

    Args:
        names: of the metrics.
        frozen: by name, the values of every query, (Q,); NaN for one without a relevant item.
        trained: the same of the same queries in the same order.
    """
    return [_verdict(name, frozen[name], trained[name]) for name in names]


def _verdict(name: str, frozen: NDArray[np.float64], trained: NDArray[np.float64]) -> Verdict:
    found = paired_bootstrap(trained, frozen)
    finding: Finding = "not significantly different"
    if found.p < 1 - CONFIDENCE:
        finding = "better" if found.mean > 0 else "worse"
    means = float(np.nanmean(frozen)), float(np.nanmean(trained))
    return Verdict(name, *means, found.low, found.high, found.p, finding)
