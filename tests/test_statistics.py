"""Intervals, tests and verdicts against scipy and plain loops, and by simulation."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.statistics import (
    BLOCK,
    Difference,
    best_of,
    holm,
    mean_interval,
    not_significantly_different,
    p_against,
    paired_bootstrap,
    paired_difference,
    per_seed,
    sign_flips,
)
from lookalike.evaluation.verdict import Verdict, judge, judged_metrics


def runs(rng: np.random.Generator, *shape: int, seed_sd: float = 0.02) -> np.ndarray:
    """Scores (..., seeds, folds): a seed's and a fold's own level, and noise of each run."""
    *_, seeds, folds = shape
    level = rng.normal(0, seed_sd, (*shape[:-1], 1)) + np.linspace(-0.1, 0.1, folds)
    return 0.6 + level + rng.normal(0, 0.01, (*shape[:-2], seeds, folds))


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_interval_is_scipy_s(n: int, confidence: float) -> None:
    values = np.array([0.61, 0.64, 0.6, 0.7])[:n]
    found = mean_interval(values, confidence)
    low, high = stats.t.interval(confidence, n - 1, values.mean(), stats.sem(values))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(
        (low, high)
    )
    assert found.n == n


def test_too_few_values_have_no_interval() -> None:
    one, none = mean_interval(np.array([0.5])), mean_interval(np.array([]))
    assert (one.mean, one.n, none.n) == (0.5, 1, 0)
    assert np.isnan([one.half_width, none.mean, none.half_width]).all()


def test_a_seed_without_all_its_folds_is_left_out() -> None:
    scores = np.array([[0.5, 0.7], [np.nan, 0.9], [0.6, 0.6]])
    assert per_seed(scores) == pytest.approx([0.6, 0.6])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Averaging a seed's folds first keeps 95 %; seeds x folds as if independent does not."""
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(2000):
        scores = runs(rng, 4, 4)
        averaged, pooled = mean_interval(per_seed(scores)), mean_interval(scores.ravel())
        covered += abs(averaged.mean - 0.6) <= averaged.half_width
        # without the folds' own levels, which no seed changes
        level = mean_interval((scores - np.linspace(-0.1, 0.1, 4)).ravel())
        naive += abs(pooled.mean - 0.6) <= level.half_width
    assert 0.935 <= covered / 2000 <= 0.965
    assert naive / 2000 < 0.85


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_the_paired_test_is_scipy_s_on_means_of_folds(seeds: int, confidence: float) -> None:
    rng = np.random.default_rng(1)
    first, second = runs(rng, seeds, 3), runs(rng, seeds, 3)
    expected = stats.ttest_rel(first.mean(1), second.mean(1))
    found = paired_difference(first, second, confidence)
    interval = expected.confidence_interval(confidence)
    assert (found.mean, found.p, found.low, found.high) == pytest.approx(
        ((first - second).mean(), expected.pvalue, interval.low, interval.high)
    )


def test_a_seed_without_all_its_folds_takes_no_part_in_the_paired_test() -> None:
    rng = np.random.default_rng(1)
    first, second = runs(rng, 5, 3), runs(rng, 5, 3)
    first[2, 1] = np.nan
    kept = [0, 1, 3, 4]
    expected = stats.ttest_rel(first[kept].mean(1), second[kept].mean(1))
    assert paired_difference(first, second).p == pytest.approx(expected.pvalue)


def test_differences_without_spread() -> None:
    same = np.array([[0.5], [0.25], [0.75]])
    assert paired_difference(same, same) == Difference(0, 0, 0, p=1)
    assert paired_difference(same + 0.125, same) == Difference(0.125, 0.125, 0.125, p=0)
    one = paired_difference(same[:1] + 0.125, same[:1])  # which tells nothing
    assert (one.mean, one.p) == (0.125, 1)
    assert np.isnan([one.low, one.high]).all()


def test_the_paired_test_is_wrong_as_often_as_it_says() -> None:
    """Two equal cells whose seeds rise and fall together."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(2000):
        shared = rng.normal(0, 0.05, (5, 1))
        first, second = (shared + rng.normal(0, 0.01, (5, 2)) for _ in range(2))
        wrong += paired_difference(first, second).p < 0.05
    assert 0.035 <= wrong / 2000 <= 0.065


def test_pairing_finds_what_seeds_hide() -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 0.05, (5, 1))
    second = shared + rng.normal(0, 0.002, (5, 1))
    first = shared + 0.02 + rng.normal(0, 0.002, (5, 1))
    assert paired_difference(first, second).p < 0.01
    assert stats.ttest_ind(first[:, 0], second[:, 0]).pvalue > 0.1


def test_the_bootstrap_is_that_of_resampled_queries() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.beta(4, 1, 300), rng.beta(3.5, 1, 300)
    found = paired_bootstrap(first, second)
    means = (first - second)[rng.integers(0, 300, (10_000, 300))].mean(1)
    expected = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(expected, abs=0.003)
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.01)
    assert paired_bootstrap(first, second) == found  # the same every time


def test_the_bootstrap_is_wrong_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    wrong = covered = 0
    for _ in range(500):
        difficulty = rng.random(150)
        first, second = ((rng.random(150) < difficulty).astype(float) for _ in range(2))
        found = paired_bootstrap(first, second, resamples=500)
        wrong += found.p < 0.05
        covered += found.low <= 0 <= found.high
    assert 0.025 <= wrong / 500 <= 0.08
    assert 0.92 <= covered / 500 <= 0.975


def test_queries_without_a_value_are_left_out_of_the_bootstrap() -> None:
    first, second = np.array([1.0, np.nan, 0.0]), np.array([0.0, np.nan, 0.0])
    assert paired_bootstrap(first, second).mean == 0.5
    with pytest.raises(ValueError, match="same queries"):
        paired_bootstrap(first, np.array([0.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    "differences",
    [
        [0.25, 0.25, -0.25, 0.25, 0.0, 0.5],  # ties, exact
        [0.1, 0.2, -0.3, 0.1, 0.2, 0.3, 0.1],  # ties that rounding breaks
        np.random.default_rng(0).normal(0.02, 0.03, 9).tolist(),
        np.random.default_rng(1).normal(-0.02, 0.05, 13).tolist(),
        [0.0, 0.0],
    ],
)
def test_sign_flips_by_every_choice_of_signs(differences: list[float]) -> None:
    assert sign_flips(np.array(differences)) == flipped(np.array(differences))


def flipped(differences: np.ndarray) -> float:
    """The share of all signs whose sum lies as far from 0."""
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=len(differences))]
    return float(np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-9))


def test_of_many_classes_signs_are_drawn() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(0.01, 0.03, 14)  # the fewest that are drawn
    found = sign_flips(differences)
    assert found == pytest.approx(flipped(differences), abs=0.015)
    assert found == sign_flips(differences)  # the same every time
    assert found != flipped(differences)
    assert found == sign_flips(differences, seed=0) != sign_flips(differences, seed=1)
    assert sign_flips(np.full(60, 0.1)) == 1 / 10_001  # only those observed are as far
    assert sign_flips(np.full(60, 0.1), resamples=99) == 1 / 100
    assert sign_flips(np.full(6, 0.1), resamples=64) == 2 / 64  # so many there are in all


def test_holm_step_by_step() -> None:
    """The smallest of m is held against alpha / m, the next against alpha / (m - 1), until one
    fails."""
    rng = np.random.default_rng(6)
    for _ in range(200):
        p_values = rng.random(6) ** 3
        rejected = set()
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (6 - step):
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(holm(p_values) <= 0.05).tolist()) == rejected
    assert holm(np.array([0.5, 0.5])).tolist() == [1, 1]
    assert holm(np.array([0.9, 0.5, 0.9])).tolist() == [1, 1, 1]
    assert holm(np.array([])).tolist() == []


def test_which_cells_are_significantly_different_from_the_best() -> None:
    rng = np.random.default_rng(7)
    scores = runs(rng, 4, 6, 2, seed_sd=0.0) + np.array([0.0, 0.3, 0.296, 0.1])[:, None, None]
    scores[3, 1:] = np.nan  # one seed tells nothing
    assert best_of(scores) == 1
    assert not_significantly_different(scores).tolist() == [False, True, True, True]
    limit = float(p_against(scores)[0])
    assert not not_significantly_different(scores, limit)[0]  # at the limit it is significant
    everything = holm(
        np.array(
            [paired_difference(scores[i], scores[j]).p for i in range(4) for j in range(i + 1, 4)]
        )
    )
    assert p_against(scores)[0] == everything[0]  # the pair (0, 1)
    named = holm(np.array([paired_difference(scores[0], scores[j]).p for j in (1, 2, 3)]))
    assert p_against(scores, reference=0) == pytest.approx([1, *named])


def test_equal_cells_are_seldom_significantly_different_from_the_best() -> None:
    """Correcting for the pairs with the best alone would err too often: the best was picked."""
    rng = np.random.default_rng(8)
    wrong = wrong_if_named = 0
    for _ in range(600):
        scores = rng.normal(0.6, 0.01, (5, 6, 1))
        wrong += not not_significantly_different(scores).all()
        wrong_if_named += (p_against(scores, best_of(scores)) <= 0.05).any()
    assert wrong / 600 <= 0.06
    assert wrong_if_named / 600 > 0.08


@pytest.mark.parametrize(
    ("gain", "finding"), [(0.2, "better"), (-0.2, "worse"), (0.0, "not significantly different")]
)
def test_a_verdict_agrees_with_a_bootstrap_by_hand(gain: float, finding: str) -> None:
    rng = np.random.default_rng(0)
    frozen = rng.uniform(size=60)
    trained = (frozen + rng.normal(gain, 0.2, 60)).clip(0, 1)
    frozen[7] = trained[7] = np.nan  # a query without a relevant item
    (verdict,) = judge(["map_at_r"], {"map_at_r": frozen}, {"map_at_r": trained})
    differences = np.delete(trained - frozen, 7)
    means = [rng.choice(differences, len(differences)).mean() for _ in range(4000)]
    assert verdict.finding == finding
    assert verdict.trained - verdict.frozen == pytest.approx(differences.mean())
    np.testing.assert_allclose(
        [verdict.low, verdict.high], np.percentile(means, [2.5, 97.5]), atol=0.01
    )
    assert (verdict.p < 0.05) == (not verdict.low <= 0 <= verdict.high) == (gain != 0)


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        (Evaluation(), ["map_at_r", "recall_at_1"]),
        (Evaluation(monitor="recall_at_1"), ["recall_at_1", "map_at_r"]),
        (Evaluation(monitor="r_precision"), ["r_precision", "map_at_r", "recall_at_1"]),
        (Evaluation(k=[2, 4]), ["map_at_r", "precision_at_1"]),
        (Evaluation(k=[5], monitor="loss"), ["map_at_r", "precision_at_1"]),
        (Evaluation(monitor="accuracy"), ["map_at_r", "recall_at_1"]),
        (Evaluation(monitor="nmi", clustering=True), ["map_at_r", "recall_at_1"]),
        (Evaluation(monitor="ami", clustering=True), ["map_at_r", "recall_at_1"]),
    ],
)
def test_what_a_training_is_judged_by(plan: Evaluation, names: list[str]) -> None:
    """Never by what has no value for each query: a classifier's metrics and a clustering's."""
    assert judged_metrics(plan) == names


def test_the_facts_of_a_verdict() -> None:
    verdict = Verdict("map", 0.5, 0.75, 0.125, 0.375, 0.01, "better")
    assert verdict.facts() == {
        "frozen": 0.5, "trained": 0.75, "low": 0.125, "high": 0.375, "p": 0.01, "finding": "better",
    }  # fmt: skip


def test_a_paired_bootstrap_by_every_resample() -> None:
    """All 4^4 resamples of four queries; the ties of three and none of them count."""
    first, second = np.array([0.3, 0.6, 0.1, 0.4]), np.array([0.0, 0.3, 0.1, 0.4])
    means = np.array([np.mean(drawn) for drawn in product(first - second, repeat=4)])
    share = float((np.abs(means - 0.15) >= 0.15 - 1e-9).mean())
    assert share == pytest.approx(2 / 16)
    found = paired_bootstrap(first, second)
    assert found.p == pytest.approx(share, abs=0.015)
    assert (found.low, found.high) == pytest.approx((0, 0.3))
    assert found == paired_bootstrap(first, second, 10_000, 0.95, seed=0)
    narrow = paired_bootstrap(first, second, confidence=0.8)
    assert (narrow.low, narrow.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))


def test_the_smallest_and_the_largest_p_of_a_paired_bootstrap() -> None:
    assert paired_bootstrap(np.ones(5), np.zeros(5)).p == 1 / 10_001
    values = np.arange(6.0)
    for resamples in (BLOCK - 1, BLOCK, BLOCK + 7, 3 * BLOCK + 1):
        assert paired_bootstrap(values, values, resamples).p == 1
    with pytest.raises(ValueError, match=r"^a paired comparison needs values of the same queries$"):
        paired_bootstrap(np.ones(3), np.ones(4))


def test_the_interval_of_many_queries_is_that_of_a_normal_distribution() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, 400)
    found = paired_bootstrap(values, np.zeros(400))
    error = values.std() / 20
    edges = stats.norm.interval(0.95, found.mean, error)
    assert (found.low, found.high) == pytest.approx(edges, abs=0.08 * error)
