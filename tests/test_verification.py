"""Verification: against scikit-learn and plain loops, with ties and hopeless cases."""

import numpy as np
import pytest
from sklearn import metrics

from lookalike.errors import InputError
from lookalike.evaluation.verification import (
    area_under_curve,
    best_accuracy,
    equal_error_rate,
    false_negative_rate_at,
    roc_curve,
    verification_metrics,
)


def pairs(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    positive = rng.random(300) < 0.3
    distances = rng.normal(1.0, 0.3, 300) - 0.3 * positive
    match kind:
        case "ties":
            distances = distances.round(1)
        case "equal":
            distances = np.ones(300)
        case "reversed":
            distances = -distances
        case "perfect":
            distances = np.where(positive, 0.5, 1.5)
    return distances, positive


KINDS = pytest.mark.parametrize("kind", ["plain", "ties", "equal", "reversed", "perfect"])


def judged(distances: np.ndarray, positive: np.ndarray) -> list[tuple[float, float, float, float]]:
    """(threshold, false positive rate, false negative rate, accuracy) by a plain loop."""
    found = []
    for threshold in [-np.inf, *sorted(set(distances.tolist()))]:
        wrong = {True: 0, False: 0}
        for distance, kind in zip(distances, positive, strict=True):
            if (distance <= threshold) != kind:
                wrong[bool(kind)] += 1
        positives, negatives = int(positive.sum()), int((~positive).sum())
        right = 1 - (wrong[True] + wrong[False]) / len(positive)
        found.append((threshold, wrong[False] / negatives, wrong[True] / positives, right))
    return found


@KINDS
def test_the_curve_by_a_loop(kind: str) -> None:
    roc = roc_curve(*pairs(kind))
    expected = np.array(judged(*pairs(kind)))
    np.testing.assert_array_equal(roc.thresholds, expected[:, 0])
    np.testing.assert_allclose(roc.false_positive_rate, expected[:, 1])
    np.testing.assert_allclose(roc.false_negative_rate, expected[:, 2], atol=1e-12)
    np.testing.assert_allclose(1 - roc.true_positive_rate, expected[:, 2], atol=1e-12)


@KINDS
def test_area_as_scikit_learn_has_it(kind: str) -> None:
    distances, positive = pairs(kind)
    expected = metrics.roc_auc_score(positive, -distances)
    assert area_under_curve(roc_curve(distances, positive)) == pytest.approx(expected)


@KINDS
def test_area_is_the_chance_of_the_right_order(kind: str) -> None:
    distances, positive = pairs(kind)
    wins = [
        1.0 if a < u else 0.5 if a == u else 0.0
        for a in distances[positive]
        for u in distances[~positive]
    ]
    assert area_under_curve(roc_curve(distances, positive)) == pytest.approx(np.mean(wins))


@KINDS
def test_best_accuracy_by_a_loop(kind: str) -> None:
    distances, positive = pairs(kind)
    accuracy, threshold = best_accuracy(roc_curve(distances, positive))
    rows = judged(distances, positive)
    assert accuracy == pytest.approx(max(row[3] for row in rows))
    assert ((distances <= threshold) == positive).mean() == pytest.approx(accuracy)


def test_of_equally_good_thresholds_the_highest() -> None:
    positive = np.array([True, False])
    assert best_accuracy(roc_curve(np.array([1.0, 1.0]), positive)) == (0.5, 1.0)
    assert best_accuracy(roc_curve(np.array([1.0, 0.0]), positive)) == (0.5, 1.0)
    mostly_negative = np.array([True, False, False])
    accuracy, threshold = best_accuracy(roc_curve(np.ones(3), mostly_negative))
    assert (accuracy, threshold) == (pytest.approx(2 / 3), -np.inf)


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.1, 0.5, 1.0])
@KINDS
def test_false_negatives_at_a_rate_by_a_loop(kind: str, rate: float) -> None:
    distances, positive = pairs(kind)
    expected = min(row[2] for row in judged(distances, positive) if row[1] <= rate)
    assert false_negative_rate_at(roc_curve(distances, positive), rate) == pytest.approx(expected)


def test_equal_error_rate_of_cases_known_by_hand() -> None:
    def rate(positive: list[float], negative: list[float]) -> float:
        kinds = np.array([True] * len(positive) + [False] * len(negative))
        return equal_error_rate(roc_curve(np.array(positive + negative), kinds))

    assert rate([1, 2], [3, 4]) == 0
    assert rate([3, 4], [1, 2]) == 1
    assert rate([1, 1], [1, 1]) == pytest.approx(0.5)
    assert rate([1, 2, 3, 5], [4, 6, 7, 8]) == pytest.approx(0.25)
    assert rate([1, 3], [2, 4]) == pytest.approx(0.5)
    assert rate([1, 2, 9], [5, 6]) == pytest.approx(1 / 3)  # on the straight line from 0 to 1/2


@KINDS
def test_equal_error_rate_lies_where_the_rates_cross(kind: str) -> None:
    distances, positive = pairs(kind)
    rate = equal_error_rate(roc_curve(distances, positive))
    rows = judged(distances, positive)
    before = [row for row in rows if row[1] <= row[2]][-1]
    after = next(row for row in rows if row[1] >= row[2])
    assert before[1] - 1e-12 <= rate <= after[1] + 1e-12
    assert after[2] - 1e-12 <= rate <= before[2] + 1e-12


def test_metrics_by_name() -> None:
    found = verification_metrics(roc_curve(*pairs("perfect")), (0.05,))
    positive = pairs("perfect")[1]
    assert found == {
        "positive_pairs": positive.sum(),
        "negative_pairs": (~positive).sum(),
        "auc": 1.0,
        "equal_error_rate": 0.0,
        "best_accuracy": 1.0,
        "threshold": 0.5,
        "false_negative_rate_at_0.05": 0.0,
    }


@KINDS
def test_the_pairs_of_each_kind_are_counted(kind: str) -> None:
    found = verification_metrics(roc_curve(*pairs(kind)))
    positive = pairs(kind)[1]
    counts = found["positive_pairs"], found["negative_pairs"]
    assert counts == (positive.sum(), (~positive).sum())


def test_pairs_that_cannot_be_judged() -> None:
    said = "^verification needs positive and negative pairs, and has one kind only$"
    for positive in (np.ones(3, bool), np.zeros(3, bool)):
        with pytest.raises(InputError, match=said):
            roc_curve(np.arange(3.0), positive)
    said = (
        "^distances of pairs hold NaN or infinity: the training has diverged. "
        "Lower the learning rate.$"
    )
    with pytest.raises(InputError, match=said):
        roc_curve(np.array([0.1, np.nan]), np.array([True, False]))
