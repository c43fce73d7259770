"""Differences between cells that were run with the same seeds and asked the same queries.

Between two cells the values that seed s gives query q differ by

    difference + seed_s + query_q + rest_sq,

three independent random effects: a mixed model (Searle, Casella & McCulloch, "Variance Components",
1992, chapter 4). The mean over S seeds and Q queries has the variance

    (seeds' variance + rest's / Q) / S  +  queries' variance / Q.

The second part is what the means of the queries show beyond the rest, with Q - 1 degrees of
freedom. The first is what the means of the seeds show; a pair of cells alone has S - 1 degrees of
freedom for it. But all cells of a table tell how much seeds matter: the variance of each cell's
seeds is moderated by those of the others, as for genes by Smyth, Statistical Applications in
Genetics and Molecular Biology 2004, section 6. How much the others count follows from how different
the variances are; at most it gives the degrees of freedom of all cells together.

The error of the mean is then a sum of two independent Student's t, with other scales and degrees of
freedom, and p is its probability to be as far from 0: the solution of Behrens and Fisher, which is
never wrong more often than it says. The result generalises to other seeds, and to other queries of
these classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma, stdtr, stdtrit  # Student's t: stdtr, and its quantile

from lookalike.evaluation.statistics import CONFIDENCE, Array, Difference

Pair = tuple[float, float]  # of the seeds, of the queries
MANY = 1e6  # degrees of freedom, in place of infinity
STEPS = np.linspace(-20, 20, 401)  # logits of probabilities, over which p is integrated
PROBABILITY = 1 / (1 + np.exp(-STEPS))
WEIGHT = PROBABILITY * (1 - PROBABILITY) / (PROBABILITY * (1 - PROBABILITY)).sum()


@dataclass(frozen=True, eq=False)
class MixedModel:
    """C cells with their values for S seeds and Q queries.

    values: (C, S, Q).
    variances: (C,), of the means of a cell's seeds, moderated by those of the other cells.
    freedom: degrees of freedom of each.
    """

    values: Array
    variances: Array
    freedom: float

    @classmethod
    def of(cls, tables: Sequence[Array]) -> "MixedModel":
        """The model of two or more cells.

        Args:
            tables: of each cell, (S, Q). NaN stands for what is missing: a seed counts if all cells
                have it, and a query if it has a value in all of them.
        """
        values = np.stack(tables)
        values = values[:, ~np.isnan(values).all(axis=2).any(axis=0)]
        values = values[:, :, ~np.isnan(values).any(axis=(0, 1))]
        cells, seeds, queries = values.shape
        if seeds < 2 or queries < 2:
            return cls(values, np.full(cells, np.nan), 0.0)
        means = values.mean(axis=2)  # (C, S)
        rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
        variances = cells / ((cells - 1) * (seeds - 1)) * (rest**2).sum(axis=1)
        return cls(values, *_moderated(variances, seeds - 1))

    @property
    def is_tested(self) -> bool:
        """Whether there are enough seeds and queries that all cells have."""
        return self.freedom > 0

    def difference(self, first: int, second: int, confidence: float = CONFIDENCE) -> Difference:
        """The difference of two cells, by their numbers; without enough seeds p is 1.

        >>> tables = [np.array([[1.0, 0, 1], [1, 1, 1]]), np.zeros((2, 3))]
        >>> found = MixedModel.of(tables).difference(0, 1)
        >>> f"{found.mean:.2f}, p = {found.p:.2f}"
        '0.83, p = 0.12'
        """
        mean, p = self._mean(first, second), self.p(first, second)
        if not self.is_tested:
            return Difference(mean, np.nan, np.nan, p)
        scales, freedoms = self._errors(first, second)
        half_width = _quantile(1 - confidence, scales, freedoms) if any(scales) else 0.0
        return Difference(mean, mean - half_width, mean + half_width, p)

    def p(self, first: int, second: int) -> float:
        """The p-value alone of `difference`."""
        if not self.is_tested:
            return 1.0
        mean, (scales, freedoms) = self._mean(first, second), self._errors(first, second)
        if not any(scales):  # the same difference every time
            return float(mean == 0)
        return _probability(abs(mean), scales, freedoms)

    def _mean(self, first: int, second: int) -> float:
        table = self.values[first] - self.values[second]
        return float(table.mean()) if table.size else np.nan

    def _errors(self, first: int, second: int) -> tuple[Pair, Pair]:
        """Standard errors and degrees of freedom, each by the seeds and by the queries."""
        cells, seeds, queries = self.values.shape
        pair = self.variances[[first, second]]
        of_seeds = float(pair.sum() / seeds)
        of_queries = _of_queries(self.values[first] - self.values[second])
        share = pair.sum() ** 2 / (pair**2).sum() if of_seeds else 1.0  # Satterthwaite, 1946
        most = (cells - 1) * (seeds - 1)
        freedoms = float(min(share * self.freedom, most)), float(queries - 1)
        return (of_seeds**0.5, of_queries**0.5), freedoms


def _of_queries(table: Array) -> float:
    """What queries add to the variance of the mean of a table (S, Q)."""
    seeds, queries = table.shape
    by_seed, by_query = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_query + table.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (queries - 1))
    return float(max(0.0, (by_query.var(ddof=1) - of_rest / seeds) / queries))


def _moderated(variances: Array, freedom: int) -> tuple[Array, float]:
    """Variances (C,) drawn towards their common value, and their degrees of freedom.

    Smyth, 2004, section 6.2: the logarithms of equal variances would scatter as chi-square does;
    what they scatter beyond that is how different the variances are.
    """
    if len(variances) < 3 or (variances <= 0).any():
        return variances, float(freedom)
    half = freedom / 2
    logarithms = np.log(variances) - digamma(half) + np.log(half)
    beyond = float(logarithms.var(ddof=1) - polygamma(1, half))
    prior = MANY if beyond <= polygamma(1, MANY / 2) else 2 * _inverse_trigamma(beyond)
    common = np.exp(logarithms.mean() + digamma(prior / 2) - np.log(prior / 2))
    return (prior * common + freedom * variances) / (prior + freedom), prior + freedom


def _inverse_trigamma(value: float) -> float:
    low = min(1e-3, 0.5 / value**0.5)  # trigamma(x) is about 1 / x^2 there
    return _root(lambda x: float(polygamma(1, x)) - value, low, MANY / 2)


def _probability(distance: float, scales: Pair, freedoms: Pair) -> float:
    """That a sum of two scaled Student's t is as far from 0."""
    first, second = scales
    if second == 0:
        return float(2 * stdtr(freedoms[0], -distance / first))
    error = first * stdtrit(freedoms[0], PROBABILITY)
    tails = [stdtr(freedoms[1], (-distance + sign * error) / second) for sign in (-1, 1)]
    return float(min(1.0, (WEIGHT * sum(tails)).sum()))


def _quantile(probability: float, scales: Pair, freedoms: Pair) -> float:
    """The distance that has a probability."""
    most = sum(-s * stdtrit(f, probability / 8) for s, f in zip(scales, freedoms, strict=True))
    return _root(lambda d: _probability(d, scales, freedoms) - probability, 0, most)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high))  # type: ignore[arg-type]  # its stubs want a tuple back
