"""Verification: do two images show the same class? Pure functions of the distances of pairs.

A pair is called alike where its distance is at most a threshold. The only thresholds that differ
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

    thresholds (T,) float64, ascending, minus infinity first; accepted_alike, accepted_unlike (T,)
    int64, the pairs of each kind that are called alike, from none of them to all of them.
    """

    thresholds: NDArray[np.float64]
    accepted_alike: NDArray[np.int64]
    accepted_unlike: NDArray[np.int64]

    @property
    def true_positive_rate(self) -> NDArray[np.float64]:
        """Of the pairs alike, the share called alike, (T,)."""
        return self.accepted_alike / self.accepted_alike[-1]

    @property
    def false_positive_rate(self) -> NDArray[np.float64]:
        """Of the pairs unlike, the share called alike, (T,)."""
        return self.accepted_unlike / self.accepted_unlike[-1]

    @property
    def false_negative_rate(self) -> NDArray[np.float64]:
        """Of the pairs alike, the share called unlike, (T,)."""
        return (self.accepted_alike[-1] - self.accepted_alike) / self.accepted_alike[-1]


def roc_curve(distances: NDArray[np.floating], alike: NDArray[np.bool_]) -> RocCurve:
    """distances (P,), alike (P,) -> the curve.

    Raises:
        InputError: a distance is not finite, or all pairs are of one kind.
    """
    if not np.isfinite(distances).all():
        raise InputError(
            "distances of pairs hold NaN or infinity: the training has diverged. Lower the "
            "learning rate."
        )
    if alike.all() or not alike.any():
        raise InputError("verification needs pairs alike and pairs unlike, and has one kind only")
    thresholds, place = np.unique(distances, return_inverse=True)

    def accepted(kind: NDArray[np.bool_]) -> NDArray[np.int64]:
        here = np.bincount(place[kind], minlength=len(thresholds))
        return np.concatenate([[0], np.cumsum(here)])

    return RocCurve(np.concatenate([[-np.inf], thresholds]), accepted(alike), accepted(~alike))


def area_under_curve(roc: RocCurve) -> float:
    """AUC: the probability that a pair alike is nearer than one unlike, ties counting one half."""
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
    alike is best, which takes more pairs unlike than alike. It is chosen on the pairs that it is
    measured on, so the accuracy is an upper bound of what it gives on others.
    """
    right = roc.accepted_alike + roc.accepted_unlike[-1] - roc.accepted_unlike
    best = len(right) - 1 - int(np.argmax(right[::-1]))
    pairs = roc.accepted_alike[-1] + roc.accepted_unlike[-1]
    return float(right[best] / pairs), float(roc.thresholds[best])


def false_negative_rate_at(roc: RocCurve, false_positive_rate: float) -> float:
    """The lowest share of alike pairs missed where at most this share of unlike pairs is accepted.

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
        "pairs_alike": float(roc.accepted_alike[-1]),
        "pairs_unlike": float(roc.accepted_unlike[-1]),
        "auc": area_under_curve(roc),
        "equal_error_rate": equal_error_rate(roc),
        "best_accuracy": accuracy,
        "threshold": threshold,
    } | {
        f"false_negative_rate_at_{rate:g}": false_negative_rate_at(roc, rate)
        for rate in false_positive_rates
    }
