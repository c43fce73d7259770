"""Verification: do two images show the same class? Pure functions of the distances of pairs.

A pair is called positive where its distance is at most a threshold. The only thresholds that differ
are the distances themselves, so pairs of one distance are always judged together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Receiver operating characteristic, as counts at every threshold.

    thresholds (T,) float64, ascending, minus infinity first; true_positives, false_positives (T,)
    int64, the pairs of each kind that are called positive, from none of them to all of them.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]

    @property
    def true_positive_rate(self) -> NDArray[np.float64]:
        """Of the positive pairs, the share called positive, (T,)."""
        return self.true_positives / self.true_positives[-1]

    @property
    def false_positive_rate(self) -> NDArray[np.float64]:
        """Of the negative pairs, the share called positive, (T,)."""
        return self.false_positives / self.false_positives[-1]

    @property
    def false_negative_rate(self) -> NDArray[np.float64]:
        """Of the positive pairs, the share called negative, (T,)."""
        return (self.true_positives[-1] - self.true_positives) / self.true_positives[-1]


def roc_curve(distances: NDArray[np.floating], positive: NDArray[np.bool_]) -> RocCurve:
    """distances (P,), positive (P,) -> the curve.

    Raises:
        InputError: a distance is not finite, or all pairs are of one kind.
    """
    if not np.isfinite(distances).all():
        raise InputError(
            "distances of pairs hold NaN or infinity: the training has diverged. Lower the "
            "learning rate."
        )
    if positive.all() or not positive.any():
        raise InputError("verification needs positive and negative pairs, and has one kind only")
    thresholds, place = np.unique(distances, return_inverse=True)

    def accepted(kind: NDArray[np.bool_]) -> NDArray[np.int64]:
        here = np.bincount(place[kind], minlength=len(thresholds))
        return np.concatenate([[0], np.cumsum(here)])

    every = np.concatenate([[-np.inf], thresholds])
    return RocCurve(every, accepted(positive), accepted(~positive))


def area_under_curve(roc: RocCurve) -> float:
    """AUC: the probability that a positive pair is nearer than a negative one; ties count half."""
    return float(np.trapezoid(roc.true_positive_rate, roc.false_positive_rate))


def equal_error_rate(roc: RocCurve) -> float:
    """The rate at which false positives and false negatives are equally frequent.

    Between two thresholds both rates are joined by a straight line.
    """
    gap = roc.false_positive_rate - roc.false_negative_rate  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    low, high = roc.false_positive_rate[after - 1 : after + 1]
    return float(low + share * (high - low))


def best_accuracy(roc: RocCurve) -> tuple[float, float]:
    """The share of pairs judged rightly at the threshold that is best for them, and the threshold.

    Of several equally good thresholds the highest. It is minus infinity where calling nothing
    positive is best, which takes more negative pairs than positive ones. It is chosen on the pairs
    that it is measured on, so the accuracy is an upper bound of what it gives on others.
    """
    right = roc.true_positives + roc.false_positives[-1] - roc.false_positives
    best = len(right) - 1 - int(np.argmax(right[::-1]))
    pairs = roc.true_positives[-1] + roc.false_positives[-1]
    return float(right[best] / pairs), float(roc.thresholds[best])


def false_negative_rate_at(roc: RocCurve, false_positive_rate: float) -> float:
    """The lowest share of positive pairs missed where at most this share of the others passes.

    Thresholds are taken as they are, nothing is interpolated.
    """
    return float(roc.false_negative_rate[roc.false_positive_rate <= false_positive_rate].min())


def verification_metrics(
    roc: RocCurve, false_positive_rates: Sequence[float] = (0.1, 0.01)
) -> dict[str, float]:
    """All of the above by name, with the number of pairs of each kind.

    >>> roc = roc_curve(np.array([0.1, 0.9]), np.array([True, False]))
    >>> verification_metrics(roc)["auc"]
    1.0
    """
    accuracy, threshold = best_accuracy(roc)
    return {
        "positive_pairs": float(roc.true_positives[-1]),
        "negative_pairs": float(roc.false_positives[-1]),
        "auc": area_under_curve(roc),
        "equal_error_rate": equal_error_rate(roc),
        "best_accuracy": accuracy,
        "threshold": threshold,
    } | {
        f"false_negative_rate_at_{rate:g}": false_negative_rate_at(roc, rate)
        for rate in false_positive_rates
    }
