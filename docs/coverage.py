"""How often four tests find a difference between two cells, where there is none and where one is.

    python docs/coverage.py [number of a row ...]

A trial draws seeds and queries anew, and with them the values of all cells of a table. The mean
difference of two cells errs by the draw of the seeds and by that of the queries; both are told as
its standard error. Prints a table for docs/statistics.md.
"""

import sys
from collections.abc import Iterator

import numpy as np
from scipy import stats

from lookalike.evaluation.mixed_model import MixedModel

TRIALS, RESAMPLES, QUERIES = 400, 200, 200
REST = 0.03  # of a single value
ALPHA = 0.05
# standard errors through the seeds and through the queries, in thousandths
NOISE = {"seeds": (10, 1), "both": (10, 10), "queries": (2, 10)}
TABLES = ((2, 3), (10, 3), (10, 5))  # cells, seeds
TESTS = ("t-test over seeds", "bootstrap of queries", "bootstrap of both", "mixed model")


def tables(
    rng: np.random.Generator, shape: tuple[int, int], noise: tuple[int, int], uneven: float
) -> Iterator[np.ndarray]:
    """Values (C, S, Q) without a difference; cells differ in how much a seed matters.

    Args:
        shape: cells and seeds.
        noise: standard errors of a difference, in thousandths.
        uneven: standard deviation of the logarithm of the noise of a cell's seeds.
    """
    cells, seeds = shape
    of_seed, of_query = noise[0] / 1000 * (seeds / 2) ** 0.5, noise[1] / 1000 * (QUERIES / 2) ** 0.5
    for _ in range(TRIALS):
        spread = of_seed * np.exp(uneven * rng.normal(size=cells) - uneven**2)
        own = spread[:, None, None] * rng.normal(size=(cells, seeds, 1))
        shared = rng.normal(0, of_seed, (1, seeds, 1))  # seeds rise and fall together
        query = rng.normal(0, of_query, (cells, 1, QUERIES))
        yield shared + own + query + rng.normal(0, REST, (cells, seeds, QUERIES))


def shares(
    rng: np.random.Generator,
    shape: tuple[int, int],
    noise: tuple[int, int],
    uneven: float,
    difference: float,
) -> list[float]:
    """Of each test, how often it says that the first two cells differ."""
    of_seeds = _weights(rng, shape[1])
    of_queries = _weights(rng, QUERIES)
    found = np.zeros(len(TESTS))
    for values in tables(rng, shape, noise, uneven):
        values[0] += difference
        table = values[0] - values[1]
        found += [
            stats.ttest_1samp(table.mean(axis=1), 0).pvalue < ALPHA,
            _excludes_0(of_queries @ table.mean(axis=0)),
            _excludes_0(((of_seeds @ table) * of_queries).sum(axis=1)),
            MixedModel.of(list(values)).p(0, 1) < ALPHA,
        ]
    return (found / TRIALS).tolist()


def _weights(rng: np.random.Generator, count: int) -> np.ndarray:
    """Of bootstrap resamples, (R, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count


def _excludes_0(means: np.ndarray) -> bool:
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return bool(low > 0 or high < 0)


def row(number: int, shape: tuple[int, int], name: str, uneven: float) -> str:
    """How often without a difference, and with one of three standard errors."""
    rng = np.random.default_rng(number)
    size = 3 * np.hypot(*NOISE[name]) / 1000
    none, some = (shares(rng, shape, NOISE[name], uneven, each) for each in (0.0, size))
    cells = [f"{a:.3f}, {b:.2f}" for a, b in zip(none, some, strict=True)]
    kind = "uneven" if uneven else "equal"
    return " | ".join([str(shape[0]), str(shape[1]), name, kind, *cells])


def main(wanted: list[int]) -> None:
    """Print the table, or some of its rows."""
    print(f"| cells | seeds | noise | cells are | {' | '.join(TESTS)} |")
    print("| ---: | ---: | --- | --- " + "| ---: " * len(TESTS) + "|")
    every = [
        (shape, name, uneven)
        for shape in TABLES
        for name in NOISE
        for uneven in ((0.0, 0.5) if name != "queries" else (0.0,))
    ]
    for number, case in enumerate(every):
        if not wanted or number in wanted:
            print(f"| {row(number, *case)} |", flush=True)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
