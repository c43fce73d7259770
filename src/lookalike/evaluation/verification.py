"""Verification: do two images show the same class? Pure functions of the distances of pairs.

A pair is predicted positive if its distance is at most a threshold. It is enough to try the
distances themselves as thresholds. Pairs of equal distance always get the same prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Receiver operating characteristic, as counts at every threshold.

    thresholds: (T,) float64, distances, ascending; the first is minus infinity.
    true_positives: (T,) int64, positive pairs predicted positive, from 0 to all of them.
    false_positives: (T,) int64, negative pairs predicted positive, from 0 to all of them.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]

    @property
    def true_positive_rate(self) -> NDArray[np.float64]:
        """The share of the positive pairs that are predicted positive, (T,)."""
        return self.true_positives / self.true_positives[-1]

    @property
    def false_positive_rate(self) -> NDArray[np.float64]:
        """The share of the negative pairs that are predicted positive, (T,)."""
        return self.false_positives / self.false_positives[-1]

    @property
    def false_negative_rate(self) -> NDArray[np.float64]:
        """The share of the positive pairs that are predicted negative, (T,)."""
        return (self.true_positives[-1] - self.true_positives) / self.true_positives[-1]


def roc_curve(distances: NDArray[np.floating], positive: NDArray[np.bool_]) -> RocCurve:
    """The ROC curve of P pairs.

    Args:
        distances: (P,), smaller for images that look more similar.
        positive: (P,), whether the images of a pair show the same class.

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
        at_threshold = np.bincount(place[kind], minlength=len(thresholds))
        return np.concatenate([[0], np.cumsum(at_threshold)])

    every = np.concatenate([[-np.inf], thresholds])
    return RocCurve(every, accepted(positive), accepted(~positive))


def area_under_curve(roc: RocCurve) -> float:
    """AUC: the probability that a positive pair is closer than a negative one; ties count half.

    >>> area_under_curve(roc_curve(np.array([1.0, 2.0, 3.0]), np.array([True, False, True])))
    0.5
    """
    return float(np.trapezoid(roc.true_positive_rate, roc.false_positive_rate))


def equal_error_rate(roc: RocCurve) -> float:
    """The false positive rate at the threshold where it equals the false negative rate.

    Both rates are interpolated linearly between two thresholds.
    """
    gap = roc.false_positive_rate - roc.false_negative_rate  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    low, high = roc.false_positive_rate[after - 1 : after + 1]
    return float(low + share * (high - low))


def best_accuracy(roc: RocCurve) -> tuple[float, float]:
    """The highest share of pairs that are predicted correctly, and its threshold.

    Of several equally good thresholds the highest is taken. It is minus infinity if predicting
    every pair negative is best, which needs more negative than positive pairs. The threshold is
    chosen on the same pairs, so expect a lower accuracy on others.
    """
    correct = roc.true_positives + roc.false_positives[-1] - roc.false_positives
    best = len(correct) - 1 - int(np.argmax(correct[::-1]))
    pairs = roc.true_positives[-1] + roc.false_positives[-1]
    return float(correct[best] / pairs), float(roc.thresholds[best])


def false_negative_rate_at(roc: RocCurve, false_positive_rate: float) -> float:
    """The lowest false negative rate with at most this false positive rate.

    Nothing is interpolated between thresholds.
    """
    return float(roc.false_negative_rate[roc.false_positive_rate <= false_positive_rate].min())


def verification_metrics(
    roc: RocCurve, false_positive_rates: Sequence[float] = (0.1, 0.01)
) -> dict[str, float]:
    """All metrics of verification by name, with the number of pairs of each kind.

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
