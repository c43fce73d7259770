"""A difference between two cells that were run with the same seeds and asked the same queries.

The value that seed s gives query q differs between the cells by

    d_sq = difference + seed_s + query_q + rest_sq,

three independent random effects: the two-way random model (Searle, Casella & McCulloch, "Variance
Components", 1992, chapter 4), which for complete tables is the mixed model with both effects. The
mean over S seeds and Q queries has the variance

    (seeds' variance + rest's / Q) / S  +  queries' variance / Q.

The first part is what the means of the seeds show, with S - 1 degrees of freedom; the second is
what the means of the queries show beyond the rest, with Q - 1. Their sum has those that
Satterthwaite gives it, Biometrics 1946. So few seeds need not cost all the power: where the choice
of the queries matters as much as that of the seed, the interval is nearly normal. The result
generalises to other seeds and to other queries of these classes.
"""

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: its distribution, its quantiles

from lookalike.evaluation.statistics import CONFIDENCE, Array, Difference


def mixed_difference(first: Array, second: Array, confidence: float = CONFIDENCE) -> Difference:
    """The test of two cells by their values for every seed and query, (S, Q) each.

    A seed takes part if both cells have it, and a query if it has a value: NaN stands for what is
    missing. With fewer than two seeds p is 1, as nothing is known of the seeds.

    >>> found = mixed_difference(np.array([[1.0, 0, 1], [1, 1, 1]]), np.zeros((2, 3)))
    >>> f"{found.mean:.2f}, p = {found.p:.2f}"
    '0.83, p = 0.13'
    """
    table = first - second
    table = table[~np.isnan(table).all(axis=1)]
    table = table[:, ~np.isnan(table).any(axis=0)]
    seeds, queries = table.shape
    mean = float(table.mean()) if table.size else np.nan
    if seeds < 2 or queries < 2:
        return Difference(mean, np.nan, np.nan, 1.0)
    of_seeds, of_queries = _variances(table)
    variance = of_seeds + of_queries
    if variance == 0:  # the same difference every time
        return Difference(mean, mean, mean, float(mean == 0))
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_queries**2 / (queries - 1))
    error = variance**0.5
    half_width = float(stdtrit(freedom, (1 + confidence) / 2) * error)
    p = 2 * stdtr(freedom, -abs(mean) / error)
    return Difference(mean, mean - half_width, mean + half_width, float(p))


def _variances(table: Array) -> tuple[float, float]:
    """What seeds and what queries add to the variance of the mean of a table (S, Q)."""
    seeds, queries = table.shape
    by_seed, by_query = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_query + table.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (queries - 1))
    of_queries = (by_query.var(ddof=1) - of_rest / seeds) / queries
    return float(by_seed.var(ddof=1) / seeds), float(max(0.0, of_queries))
