"""The mixed model against plain loops and scipy, by simulation, and in the tables of benchmarks."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lookalike.errors import InputError
from lookalike.evaluation.mixed_model import mixed_difference
from lookalike.evaluation.scoring import Measured
from lookalike.evaluation.statistics import holm
from lookalike.reports.cell_table import explained
from lookalike.reports.cells import Setting, compare
from lookalike.reports.saved import SavedRun


def table(
    rng: np.random.Generator, seeds: int, queries: int, of_seed: float, of_query: float
) -> np.ndarray:
    """Differences (S, Q), of which the mean errs by so much through seeds and through queries."""
    seed = rng.normal(0, of_seed * seeds**0.5, (seeds, 1))
    query = rng.normal(0, of_query * queries**0.5, queries)
    return seed + query + rng.normal(0, 0.05, (seeds, queries))


def slow_p(differences: np.ndarray) -> float:
    """By mean squares, added up one by one; Searle, Casella & McCulloch, 1992, chapter 4."""
    seeds, queries = differences.shape
    mean = differences.mean()
    of_seeds = sum(queries * (row.mean() - mean) ** 2 for row in differences) / (seeds - 1)
    of_queries = sum(seeds * (row.mean() - mean) ** 2 for row in differences.T) / (queries - 1)
    of_rest = sum(
        (differences[s, q] - differences[s].mean() - differences[:, q].mean() + mean) ** 2
        for s in range(seeds)
        for q in range(queries)
    ) / ((seeds - 1) * (queries - 1))
    first = of_seeds / (seeds * queries)
    second = max(0.0, (of_queries - of_rest) / (seeds * queries))
    variance = first + second
    freedom = variance**2 / (first**2 / (seeds - 1) + second**2 / (queries - 1))
    return float(2 * stats.t.sf(abs(mean) / variance**0.5, freedom))


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_classical_analysis_of_variance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = table(rng, 4, 30, 0.02, 0.03) + 0.05
    second = rng.random((4, 30))
    found = mixed_difference(second + differences, second)
    assert found.p == pytest.approx(slow_p(differences))
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_its_limits_are_two_t_tests() -> None:
    """Where only seeds differ, and where only queries do."""
    rng = np.random.default_rng(0)
    seeds, queries = rng.normal(0.1, 0.1, 5), rng.normal(0.02, 0.1, 200)
    only_seeds = mixed_difference(np.tile(seeds[:, None], 200), np.zeros((5, 200)))
    only_queries = mixed_difference(np.tile(queries, (5, 1)), np.zeros((5, 200)))
    assert only_seeds.p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)
    assert only_queries.p == pytest.approx(stats.ttest_1samp(queries, 0).pvalue)


def test_what_is_missing_is_left_out() -> None:
    rng = np.random.default_rng(1)
    differences = table(rng, 4, 20, 0.1, 0.1)
    holes = differences.copy()
    holes[2] = np.nan
    holes[:, 5] = np.nan
    kept = np.delete(np.delete(differences, 2, axis=0), 5, axis=1)
    assert mixed_difference(holes, np.zeros((4, 20))) == mixed_difference(kept, np.zeros((3, 19)))
    assert mixed_difference(differences[:1], np.zeros((1, 20))).p == 1  # one seed tells nothing
    assert mixed_difference(np.zeros((3, 20)), np.zeros((3, 20))).p == 1
    assert mixed_difference(np.ones((3, 20)), np.zeros((3, 20))).p == 0


@pytest.mark.parametrize(("of_seed", "of_query"), [(0.01, 0.002), (0.01, 0.01), (0.002, 0.01)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_it_is_wrong_as_often_as_it_says(seeds: int, of_seed: float, of_query: float) -> None:
    """Two cells without a difference, with other seeds and other queries each time."""
    rng = np.random.default_rng(seeds)
    nothing = np.zeros((seeds, 150))
    wrong = [
        mixed_difference(table(rng, seeds, 150, of_seed, of_query), nothing).p < 0.05
        for _ in range(1500)
    ]
    assert 0.02 <= np.mean(wrong) <= 0.075


def test_a_t_test_over_seeds_knows_nothing_of_other_queries_and_finds_less() -> None:
    rng = np.random.default_rng(9)
    nothing = np.zeros((3, 150))

    def shares(of_seed: float, of_query: float, difference: float) -> tuple[float, float]:
        """How often the t-test and the mixed model find something."""
        drawn = [table(rng, 3, 150, of_seed, of_query) + difference for _ in range(800)]
        by_t = [stats.ttest_1samp(each.mean(axis=1), 0).pvalue < 0.05 for each in drawn]
        mixed = [mixed_difference(each, nothing).p < 0.05 for each in drawn]
        return float(np.mean(by_t)), float(np.mean(mixed))

    by_t, mixed = shares(0.002, 0.03, 0)
    assert by_t > 0.15  # these queries favour one of two equal cells
    assert mixed < 0.075
    by_t, mixed = shares(0.02, 0.02, 0.1)
    assert mixed > by_t + 0.1


def saved(folder: Path, seed: int, values: np.ndarray, trained: bool = True) -> SavedRun:
    folder.mkdir(parents=True)
    Measured({}, {"map": values}, np.arange(len(values))).save(folder / "queries.npz")
    scores = {"test/map": float(values.mean()), "wall_time_seconds": 60.0}
    config = {"seed": seed, "data.fold": 0, "trainer.max_epochs": int(trained)}
    return SavedRun(folder, scores, {}, config, {})


def settings(folder: Path, tables: dict[str, np.ndarray]) -> list[Setting]:
    made = []
    for name, values in tables.items():
        runs = [
            saved(folder / name / str(seed), seed, row, name != "before")
            for seed, row in enumerate(values)
        ]
        made.append(Setting({}, tuple(runs), name))
    return made


def drawn(folder: Path) -> tuple[dict[str, np.ndarray], list[Setting]]:
    """Three losses: "a" is better than "b", and about as good as "c"."""
    rng = np.random.default_rng(3)
    hard = rng.random(300)
    means = {"a": 0.6, "b": 0.57, "c": 0.598, "before": 0.5}
    tables = {
        name: mean + 0.1 * hard + rng.normal(0, 0.1, 300) + rng.normal(0, 0.01, (3, 1))
        + rng.normal(0, 0.05, (3, 300))
        for name, mean in means.items()
    }  # fmt: skip
    return tables, settings(folder, tables)


def test_tables_of_benchmarks_use_it_with_holm(tmp_path: Path) -> None:
    tables, made = drawn(tmp_path)
    lines = compare(made, ["test/map"], "b")
    kept = {name: values.astype(np.float32).astype(float) for name, values in tables.items()}
    expected = holm(np.array([mixed_difference(kept["b"], kept[n]).p for n in ("a", "c")]))
    found = {line.setting.label: line.scores["test/map"] for line in lines}
    assert [found[name].p for name in ("a", "c")] == pytest.approx(expected)
    assert found["before"].p is None
    assert {score.test for score in found.values()} == {"mixed model", None}
    by_t = [
        stats.ttest_rel(tables["b"].mean(axis=1), tables[n].mean(axis=1)).pvalue for n in ("a", "c")
    ]
    assert [found[name].p_t for name in ("a", "c")] == pytest.approx(holm(np.array(by_t)))
    notes = " ".join(explained(lines, "b"))
    assert "by a mixed model of seeds and queries, Holm-corrected for the pairs with it" in notes
    assert "95 % t-interval over seeds" in notes
    best = compare(made, ["test/map"])
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    everything = holm(np.array([mixed_difference(kept[i], kept[j]).p for i, j in pairs]))
    scores = {line.setting.label: line.scores["test/map"] for line in best}
    first = max(("a", "b", "c"), key=lambda name: scores[name].mean)
    for pair, p in zip(pairs, everything, strict=True):
        if first in pair:
            (other,) = set(pair) - {first}
            assert scores[other].p == pytest.approx(p)


@pytest.mark.parametrize("how", ["missing", "other queries"])
def test_without_the_same_queries_the_t_test_decides(how: str, tmp_path: Path) -> None:
    _, made = drawn(tmp_path)
    file = tmp_path / "b" / "1" / "queries.npz"
    file.unlink()
    if how == "other queries":
        Measured({}, {"map": np.zeros(300)}, np.arange(1, 301)).save(file)
    lines = compare(made, ["test/map"])
    found = [line.scores["test/map"] for line in lines if line.setting.trained]
    assert {score.test for score in found} == {"t-test"}
    assert all(score.p == score.p_t for score in found)
    assert "by the paired t-test over seeds" in " ".join(explained(lines))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    _, made = drawn(tmp_path)
    (tmp_path / "a" / "0" / "queries.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"queries\.npz can't be read"):
        compare(made, ["test/map"])


def test_a_file_of_ten_thousand_queries_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {f"recall_at_{k}": (rng.random(10_000) < 0.9) + 0.0 for k in (1, 2, 4, 8)}
    values |= {name: rng.random(10_000) for name in ("map", "map_at_r", "r_precision")}
    Measured({}, values, np.arange(10_000)).save(tmp_path / "queries.npz")
    assert (tmp_path / "queries.npz").stat().st_size < 150_000
    run = SavedRun(tmp_path, {}, {}, {}, {})
    ids, column = run.query_values("test/map") or (np.zeros(0), np.zeros(0))
    np.testing.assert_allclose(column, values["map"], rtol=1e-6)
    assert ids.tolist() == list(range(10_000))
    assert run.query_values("test/nmi") is None
    assert run.query_values("val/map") is None
