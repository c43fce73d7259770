"""Statistics of scores: confidence intervals over seeds, and paired significance tests.

Folds share most of their training images, so there is no unbiased estimate of their variance
(Bengio & Grandvalet, JMLR 2004). Scores are therefore averaged over the folds of each seed first.
The seeds are the independent repetitions: every interval and t-test here has seeds - 1 degrees of
freedom. A seed with a missing fold (NaN) is left out. `mixed_model` also looks at the queries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy  # which imports scipy.special when it is first used
from numpy.typing import NDArray

Array = NDArray[np.float64]
CONFIDENCE = 0.95
BLOCK = 256  # bootstrap resamples held in memory at once


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, mean ± half_width.

    mean: of the values; NaN without any.
    half_width: at least 0; NaN with fewer than two values.
    n: number of values.
    """

    mean: float
    half_width: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences, with its confidence interval and p-value.

    mean: of the differences, first minus second.
    low: lower end of the interval.
    high: upper end of the interval.
    p: two-sided p-value, in [0, 1].
    """

    mean: float
    low: float
    high: float
    p: float


def per_seed(scores: Array) -> Array:
    """The mean over the folds of every complete seed, (S, F) -> (at most S,)."""
    means = np.mean(scores, axis=1)
    return means[~np.isnan(means)]


def mean_interval(values: Array, confidence: float = CONFIDENCE) -> Interval:
    """The mean of independent values (N,) with its interval by Student's t.

    >>> found = mean_interval(np.array([0.5, 0.7]))
    >>> f"{found.mean:.1f} ± {found.half_width:.2f}"
    '0.6 ± 1.27'
    """
    n = len(values)
    if n < 2:
        return Interval(float(values[0]) if n else np.nan, np.nan, n)
    quantile = scipy.special.stdtrit(n - 1, (1 + confidence) / 2)
    return Interval(float(values.mean()), float(quantile * _standard_error(values)), n)


def paired_difference(first: Array, second: Array, confidence: float = CONFIDENCE) -> Difference:
    """The paired t-test of two cells run with the same seeds and folds, (S, F) each.

    A seed takes part if both cells have all of its folds. With fewer than two seeds p is 1.
    """
    differences = per_seed(first - second)
    found = mean_interval(differences, confidence)
    low, high = found.mean - found.half_width, found.mean + found.half_width
    if found.n < 2:
        return Difference(found.mean, low, high, 1.0)
    error = _standard_error(differences)
    if error == 0:  # the same difference every time
        return Difference(found.mean, low, high, float(found.mean == 0))
    p = 2 * scipy.special.stdtr(found.n - 1, -abs(found.mean) / error)
    return Difference(found.mean, low, high, float(p))


def paired_bootstrap(
    first: Array,
    second: Array,
    resamples: int = 10_000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """The paired percentile bootstrap over queries, of two models' values for them, (Q,) each.

    Efron & Tibshirani, 1993; for rankings Sakai, SIGIR 2006. p is the share of resamples whose
    mean, centred, lies at least as far from 0 as the observed mean. The result generalises to
    other queries of these classes, not to other seeds. Queries without a value (NaN) in both
    models are left out.

    Raises:
        ValueError: the values are not of the same queries.
    """
    if first.shape != second.shape or (np.isnan(first) != np.isnan(second)).any():
        raise ValueError("a paired comparison needs values of the same queries")
    differences = (first - second)[~np.isnan(first)]
    means = _resampled_means(differences, resamples, seed)
    observed = differences.mean()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    # 0/1 metrics have ties, which rounding errors must not break
    as_far = np.abs(means - observed) >= abs(observed) - 1e-12
    # the observed mean counts as one, so that p is never 0: Davison & Hinkley, 1997, section 4.2
    p = (1 + as_far.sum()) / (1 + resamples)
    return Difference(float(observed), float(low), float(high), float(p))


def sign_flips(differences: Array, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of paired differences (N,), each of which could have either sign.

    Fisher's randomisation test; Good, 2005, section 3.2. With N classes it generalises to other
    classes. All 2^N signs count where they are no more than the resamples, so that fewer than six
    differences are never significant.

    >>> sign_flips(np.full(5, 0.1)), sign_flips(np.full(6, 0.1))
    (0.0625, 0.03125)
    """
    n = len(differences)
    exact = 2**n <= resamples
    if exact:
        signs = 1 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # (2^N, N)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (resamples, n))
    as_far = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12
    # drawn signs: the observed ones count too, so that p is never 0
    return float(as_far.mean() if exact else (1 + as_far.sum()) / (1 + resamples))


def holm(p_values: Array) -> Array:
    """p-values (M,) corrected for their number. Holm, Scandinavian Journal of Statistics 1979.

    >>> holm(np.array([0.01, 0.04])).tolist()
    [0.02, 0.04]
    """
    m = len(p_values)
    order = np.argsort(p_values)
    adjusted = np.empty(m)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(m, 0, -1)).clip(max=1)
    return adjusted


def best_of(scores: Array) -> int:
    """The number of the cell with the highest mean of scores (cells, S, F).

    Cells without a complete seed come last.
    """
    return int(np.nanargmax([mean_interval(per_seed(cell)).mean for cell in scores]))


def p_against(
    scores: Array,
    reference: int | None = None,
    test: Callable[[int, int], float] | None = None,
) -> Array:
    """Holm-corrected p-values (cells,) of every cell of (cells, S, F) against one of them.

    Compared with the best cell, the correction is for all pairs of cells, since the scores
    themselves decided which cell is the best. Compared with a reference chosen beforehand, it is
    for the pairs with the reference only. The reference itself has p = 1.

    Args:
        scores: (cells, seeds, folds).
        reference: number of a cell; None for the best one.
        test: the p-value of a pair of cells, by their numbers; None for the paired t-test.
    """
    test = test or (lambda i, j: paired_difference(scores[i], scores[j]).p)
    cells = len(scores)
    pairs = [p for p in combinations(range(cells), 2) if reference is None or reference in p]
    raw = np.array([test(i, j) for i, j in pairs])
    against = best_of(scores) if reference is None else reference
    corrected = np.ones(cells)
    for (i, j), p in zip(pairs, holm(raw), strict=True):
        if against in (i, j):
            corrected[i + j - against] = p
    return corrected


def not_significantly_different(scores: Array, alpha: float = 1 - CONFIDENCE) -> NDArray[np.bool_]:
    """Which cells of (cells, S, F) do not differ significantly from the best, (cells,).

    The best itself is one of them.
    """
    return p_against(scores) > alpha


def _resampled_means(values: Array, resamples: int, seed: int) -> Array:
    """The mean of every bootstrap resample of values (N,), (resamples,)."""
    rng = np.random.default_rng(seed)
    n = len(values)
    return np.concatenate(
        [
            values[rng.integers(0, n, (min(BLOCK, resamples - done), n))].mean(axis=1)
            for done in range(0, resamples, BLOCK)
        ]
    )


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5
