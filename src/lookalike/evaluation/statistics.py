"""How sure a score is: intervals over seeds, paired comparisons, and what can't be told apart.

Folds share most of their training images, so that no unbiased estimate of their variance exists
(Bengio & Grandvalet, JMLR 2004). Scores are therefore averaged over the folds of each seed first;
seeds are the independent repetitions, and every interval and test here has seeds - 1 degrees of
freedom. A seed with a missing fold (NaN) is left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t: its distribution, its quantiles

Array = NDArray[np.float64]
CONFIDENCE = 0.95
BLOCK = 256  # bootstrap resamples held in memory at once


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its confidence interval, NaN where fewer than two values are."""

    mean: float
    half_width: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its confidence interval, and the two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float


def per_seed(scores: Array) -> Array:
    """The mean over folds of every complete seed, (S, F) -> (at most S,)."""
    means = np.mean(scores, axis=1)
    return means[~np.isnan(means)]


def mean_interval(values: Array, confidence: float = CONFIDENCE) -> Interval:
    """The mean of independent values (N,) with Student's interval."""
    n = len(values)
    if n < 2:
        return Interval(float(values[0]) if n else np.nan, np.nan, n)
    quantile = stdtrit(n - 1, (1 + confidence) / 2)
    return Interval(float(values.mean()), float(quantile * _standard_error(values)), n)


def paired_difference(first: Array, second: Array, confidence: float = CONFIDENCE) -> Difference:
    """The paired t-test of two cells run with the same seeds and folds, (S, F) each.

    A seed takes part if both have all of its folds. With fewer than two seeds p is 1.
    """
    differences = per_seed(first - second)
    found = mean_interval(differences, confidence)
    low, high = found.mean - found.half_width, found.mean + found.half_width
    if found.n < 2:
        return Difference(found.mean, low, high, 1.0)
    error = _standard_error(differences)
    if error == 0:  # the same difference every time
        return Difference(found.mean, low, high, float(found.mean == 0))
    p = 2 * stdtr(found.n - 1, -abs(found.mean) / error)
    return Difference(found.mean, low, high, float(p))


def paired_bootstrap(
    first: Array,
    second: Array,
    resamples: int = 10_000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """The percentile bootstrap over queries, of two models' values for the same queries, (Q,) each.

    Efron & Tibshirani, 1993; for rankings Sakai, SIGIR 2006: p is the share of resamples of the
    centred differences that lie as far from 0 as what was seen. It tells how sure a difference of
    two models is on other queries of these classes; it knows nothing of seeds. Queries that have
    no value (NaN) in both are left out.

    Raises:
        ValueError: the two do not have the same queries.
    """
    if first.shape != second.shape or (np.isnan(first) != np.isnan(second)).any():
        raise ValueError("a paired comparison needs values of the same queries")
    differences = (first - second)[~np.isnan(first)]
    rng = np.random.default_rng(seed)
    n = len(differences)
    means = np.concatenate(
        [
            differences[rng.integers(0, n, (min(BLOCK, resamples - done), n))].mean(axis=1)
            for done in range(0, resamples, BLOCK)
        ]
    )
    seen = differences.mean()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    # 1 for what was seen itself, so that p is never 0: Davison & Hinkley, 1997, section 4.2
    as_far = np.abs(means - seen) >= abs(seen) - 1e-12  # 0/1 metrics have ties; rounding is none
    p = (1 + as_far.sum()) / (1 + resamples)
    return Difference(float(seen), float(low), float(high), float(p))


def holm(p_values: Array) -> Array:
    """p-values (M,) corrected for their number. Holm, Scandinavian Journal of Statistics 1979."""
    m = len(p_values)
    order = np.argsort(p_values)
    adjusted = np.empty(m)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(m, 0, -1)).clip(max=1)
    return adjusted


def best_of(scores: Array) -> int:
    """The cell with the highest mean of (cells, S, F); cells without a complete seed are last."""
    return int(np.nanargmax([mean_interval(per_seed(cell)).mean for cell in scores]))


def p_against(scores: Array, reference: int | None = None) -> Array:
    """Holm-corrected p-values (cells,) of every cell of (cells, S, F) against one of them.

    Against the best (null), all pairs are corrected for, not only those with the best: which one
    is best was itself read from the scores. Against a reference named beforehand, the pairs with
    it are. The reference's own p is 1.
    """
    cells = len(scores)
    pairs = [
        (i, j)
        for i in range(cells)
        for j in range(i + 1, cells)
        if reference is None or reference in (i, j)
    ]
    raw = np.array([paired_difference(scores[i], scores[j]).p for i, j in pairs])
    against = best_of(scores) if reference is None else reference
    corrected = np.ones(cells)
    for (i, j), p in zip(pairs, holm(raw), strict=True):
        if against in (i, j):
            corrected[i + j - against] = p
    return corrected


def not_significantly_different(scores: Array, alpha: float = 1 - CONFIDENCE) -> NDArray[np.bool_]:
    """Which cells of (cells, S, F) are not told apart from the best, itself included."""
    return p_against(scores) > alpha


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5
