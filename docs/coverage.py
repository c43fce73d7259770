"""How often four tests find a difference between two cells, where there is none and where one is.

    python docs/coverage.py

Seeds and queries are drawn anew for each trial. A trial is the table of differences of two cells,
S seeds by Q queries, with an effect of the seed, one of the query, and a rest; they are told as the
standard error that each gives the mean. Prints a table for docs/statistics.md.
"""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from lookalike.evaluation.mixed_model import mixed_difference

TRIALS, RESAMPLES, QUERIES, REST = 300, 400, 1000, 0.3
ALPHA = 0.05
# the seeds' and the queries' part of the standard error of a mean of five seeds, in thousandths
PARTS = {"mostly seeds": (9.0, 2.0), "both alike": (5.0, 5.0), "mostly queries": (2.0, 9.0)}
ORDINARY, HITS = "normal", "0 or 1"


def tables(
    rng: np.random.Generator, seeds: int, parts: tuple[float, float], mean: float, kind: str
) -> Iterator[np.ndarray]:
    """Differences (S, Q), of values that are normal, or of hits and misses."""
    of_seed, of_query = (part / 1000 for part in parts)
    for _ in range(TRIALS):
        seed = rng.normal(0, of_seed * 5**0.5, (seeds, 1))
        query = rng.normal(0, of_query * QUERIES**0.5, QUERIES)
        if kind == ORDINARY:
            yield mean + seed + query + rng.normal(0, REST, (seeds, QUERIES))
            continue
        # the difference of two 0/1 values whose chances differ by seed and by query
        ability = (mean + seed + query).clip(-0.8, 0.8)
        first, second = (
            rng.random((seeds, QUERIES)) < 0.5 + half * ability for half in (0.5, -0.5)
        )
        yield first.astype(float) - second


def shares(
    rng: np.random.Generator, seeds: int, parts: tuple[float, float], mean: float, kind: str
) -> dict[str, float]:
    """Of each test, how often it says that the cells differ."""
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds  # (R, S)
    of_queries = rng.multinomial(QUERIES, np.full(QUERIES, 1 / QUERIES), RESAMPLES) / QUERIES
    found = dict.fromkeys(("t over seeds", "bootstrap, queries", "bootstrap, both", "mixed"), 0)
    for table in tables(rng, seeds, parts, mean, kind):
        found["t over seeds"] += stats.ttest_1samp(table.mean(axis=1), 0).pvalue < ALPHA
        of_query = table.mean(axis=0)
        found["bootstrap, queries"] += _excludes_0(of_queries @ of_query)
        found["bootstrap, both"] += _excludes_0(((of_seeds @ table) * of_queries).sum(axis=1))
        found["mixed"] += mixed_difference(table, np.zeros_like(table)).p < ALPHA
    return {name: count / TRIALS for name, count in found.items()}


def _excludes_0(means: np.ndarray) -> bool:
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return bool(low > 0 or high < 0)


def main() -> None:
    """Print the table: without a difference, then with one of three standard errors."""
    rng = np.random.default_rng(0)
    heads: list[str] = []
    for kind in (ORDINARY, HITS):
        for seeds in (3, 5, 10):
            for name, parts in PARTS.items():
                error = np.hypot(parts[0] * (5 / seeds) ** 0.5, parts[1]) / 1000
                none, some = (shares(rng, seeds, parts, mean, kind) for mean in (0, 3 * error))
                if not heads:
                    heads = ["values", "seeds", "noise", *none]
                    print(f"| {' | '.join(heads)} |")
                    print("| --- | ---: | --- " + "| ---: " * len(none) + "|")
                cells = [f"{none[test]:.3f}, {some[test]:.2f}" for test in none]
                print(f"| {kind} | {seeds} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
