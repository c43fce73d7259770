"""The mixed model by other ways, by simulation, and in the tables of benchmarks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, polygamma

from lookalike.errors import InputError
from lookalike.evaluation.mixed_model import MixedModel
from lookalike.evaluation.scoring import Measured
from lookalike.evaluation.statistics import Difference, holm
from lookalike.reports.cell_table import explained
from lookalike.reports.cells import Setting, compare
from lookalike.reports.saved import SavedRun


def cells(
    rng: np.random.Generator, count: int, seeds: int, of_seed: float, of_query: float, q: int = 120
) -> np.ndarray:
    """Values (C, S, Q) of equal cells, whose differences err by so much through seeds, queries."""
    seed = rng.normal(0, of_seed * (seeds / 2) ** 0.5, (count, seeds, 1))
    query = rng.normal(0, of_query * (q / 2) ** 0.5, (count, 1, q))
    together = rng.normal(0, 0.02, (1, seeds, 1))
    return 0.5 + together + seed + query + rng.normal(0, 0.03, (count, seeds, q))


def pair(differences: np.ndarray) -> Difference:
    return MixedModel.of([differences, np.zeros_like(differences)]).difference(0, 1)


def mean_squares(table: np.ndarray) -> tuple[float, float]:
    """The variances of the mean through seeds and through queries, by sums over all values."""
    seeds, queries = table.shape
    mean = table.mean()
    of_seeds = sum(queries * (row.mean() - mean) ** 2 for row in table) / (seeds - 1)
    of_queries = sum(seeds * (row.mean() - mean) ** 2 for row in table.T) / (queries - 1)
    of_rest = sum(
        (table[s, q] - table[s].mean() - table[:, q].mean() + mean) ** 2
        for s in range(seeds)
        for q in range(queries)
    ) / ((seeds - 1) * (queries - 1))
    size = seeds * queries
    return of_seeds / size, max(0.0, (of_queries - of_rest) / size)


@pytest.mark.parametrize("seed", range(4))
def test_two_cells_by_mean_squares_and_drawn_errors(seed: int) -> None:
    """The error of the mean is drawn a million times: two Student's t with their scales."""
    rng = np.random.default_rng(seed)
    first, second = cells(rng, 2, 4, 0.01, 0.01, q=30)
    found = MixedModel.of([first + 0.03, second]).difference(0, 1)
    of_seeds, of_queries = mean_squares(first - second)
    errors = of_seeds**0.5 * rng.standard_t(3, 10**6)
    errors += of_queries**0.5 * rng.standard_t(29, 10**6)
    assert found.mean == pytest.approx((first - second).mean() + 0.03)
    assert found.p == pytest.approx((abs(errors) > abs(found.mean)).mean(), abs=0.002)
    assert found.high - found.mean == pytest.approx(np.quantile(abs(errors), 0.95), rel=0.02)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_two_seeds_and_two_queries_by_hand() -> None:
    """Both errors are Student's t with one degree of freedom, Cauchy: their scales add up."""
    table = np.array([[1.0, 3.0], [2.0, 8.0]])
    scale = np.sqrt(2.25) + np.sqrt(3)  # mean squares 9 / 4 of seeds, (16 - 4) / 4 of queries
    assert np.sqrt(mean_squares(table)).sum() == pytest.approx(scale)
    found = pair(table)
    assert found.mean == 3.5
    assert found.p == pytest.approx(1 - 2 / np.pi * np.arctan(3.5 / scale), rel=1e-4)
    assert found.high - 3.5 == pytest.approx(scale * np.tan(np.pi / 2 * 0.95), rel=1e-3)
    assert 3.5 - found.low == pytest.approx(found.high - 3.5)
    assert pair(np.array([[1.0, -1.0], [-3.0, 3.0]])).p <= 1


def of_means(means: np.ndarray) -> MixedModel:
    """Cells with these means of their seeds, (C, S), the same for every query."""
    return MixedModel.of(list(np.repeat(means[:, :, None], 3, axis=2)))


def test_degrees_of_freedom_of_two_unlike_cells_are_satterthwaite_s() -> None:
    """Only seeds differ, so that p is that of one t-test. The third cell's means are those of the
    others, so that its variance is 0, and no variance is moderated."""
    means = np.array([[6.0, 0, 0], [-6, 0, 0], [0, 0, 0]])
    means += np.array([[1.0], [2], [5]])
    model = of_means(means)
    assert model.variances == pytest.approx([18, 18, 0])
    assert model.variances[2] == 0
    assert model.freedom == 2
    for first, second, freedom in ((0, 1, 4), (0, 2, 2), (1, 2, 2)):
        variance = model.variances[[first, second]].sum() / 3
        t = (means[first] - means[second]).mean() / variance**0.5
        expected = 2 * stats.t.sf(abs(t), freedom)
        assert model.p(first, second) == pytest.approx(expected)
        half_width = stats.t.ppf(0.975, freedom) * variance**0.5
        found = model.difference(first, second)
        assert found.high - found.mean == pytest.approx(half_width)


def test_unlike_cells_have_fewer_degrees_of_freedom_than_alike_ones() -> None:
    means = np.array([[3.0, 0, 0], [-1, 0, 0], [-2, 0, 0], [0, 0, 0]])
    model = of_means(means)
    v, w = model.variances[:2]
    freedom = 2 * (v + w) ** 2 / (v**2 + w**2)
    assert model.freedom == 2 < freedom < 4
    t = (means[0] - means[1]).mean() / ((v + w) / 3) ** 0.5
    assert model.p(0, 1) == pytest.approx(2 * stats.t.sf(t, freedom))


def scattered(beyond: float, seeds: int = 3) -> MixedModel:
    """Four cells whose logarithms of variances scatter by so much more than chance does."""
    half = (seeds - 1) / 2
    apart = (3 / 4 * (float(polygamma(1, half)) + beyond)) ** 0.5
    sizes = np.exp(np.array([-apart, -apart, apart, apart]) / 2) * [1, -1, 1, -1]
    shape = np.zeros(seeds)
    shape[:2] = 1, -1
    return of_means(sizes[:, None] * shape)


@pytest.mark.parametrize("prior", [0.5, 3.0, 40.0, 1000.0])
@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_variances_are_moderated_as_smyth_says(prior: float, seeds: int) -> None:
    """His equations, solved by hand: trigamma of half the prior's degrees of freedom is given."""
    model = scattered(float(polygamma(1, prior / 2)), seeds)
    freedom = seeds - 1
    assert model.freedom == pytest.approx(prior + freedom, rel=1e-6)
    means = model.values.mean(axis=2)
    own = 4 / (3 * freedom) * (means**2).sum(axis=1)
    common = np.log(own).mean() - digamma(freedom / 2) + np.log(freedom / 2)
    common = np.exp(common + digamma(prior / 2) - np.log(prior / 2))
    expected = (prior * common + freedom * own) / (prior + freedom)
    np.testing.assert_allclose(model.variances, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("beyond", "freedom"),
    [(-0.5, 1e6), (0.0, 1e6), (1e-6, 1e6), (2.5e-6, 8e5)],
)
def test_variances_that_scatter_no_more_than_chance_become_one(
    beyond: float, freedom: float
) -> None:
    """Trigamma of a large x is about 1 / x."""
    model = scattered(beyond)
    assert model.freedom == pytest.approx(freedom, rel=1e-3)
    np.testing.assert_allclose(model.variances, model.variances.mean(), rtol=1e-4)


def test_three_cells_are_moderated_and_two_are_not() -> None:
    rng = np.random.default_rng(5)
    drawn = cells(rng, 3, 4, 0.01, 0.0)
    three, two = MixedModel.of(list(drawn)), MixedModel.of(list(drawn[:2]))
    assert three.freedom > 3
    assert two.freedom == 3


def test_its_limits_are_two_t_tests() -> None:
    """Where only seeds differ, and where only queries do."""
    rng = np.random.default_rng(0)
    seeds, queries = rng.normal(0.1, 0.1, 5), rng.normal(0.02, 0.1, 200)
    only_seeds, only_queries = np.tile(seeds[:, None], 200), np.tile(queries, (5, 1))
    assert pair(only_seeds).p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)
    assert pair(only_queries).p == pytest.approx(stats.ttest_1samp(queries, 0).pvalue)


def test_what_is_missing_is_left_out() -> None:
    rng = np.random.default_rng(1)
    values = cells(rng, 3, 4, 0.01, 0.01, q=20)
    holes = values.copy()
    holes[1, 2] = np.nan  # one cell lacks a seed
    holes[:, :, 5] = np.nan  # a query without a relevant item
    kept = np.delete(np.delete(values, 2, axis=1), 5, axis=2)
    assert MixedModel.of(list(holes)).difference(0, 2) == MixedModel.of(list(kept)).difference(0, 2)
    alone = MixedModel.of(list(values[:, :1]))
    assert (alone.is_tested, alone.p(0, 1)) == (False, 1.0)  # one seed tells nothing
    assert alone.variances.shape == (3,)
    assert np.isnan(alone.variances).all()
    untested = alone.difference(0, 1)
    assert (untested.mean, untested.p) == ((values[0, 0] - values[1, 0]).mean(), 1)
    assert np.isnan([untested.low, untested.high]).all()
    nothing = MixedModel.of([np.full((2, 3), np.nan), np.zeros((2, 3))]).difference(0, 1)
    assert nothing.p == 1
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()
    assert pair(np.zeros((3, 20))) == Difference(0, 0, 0, p=1)
    assert pair(np.ones((3, 20))) == Difference(1, 1, 1, p=0)


def test_other_cells_tell_how_much_seeds_matter() -> None:
    """With equal noise each variance is that of all cells, nearly; with unequal noise it is not."""
    rng = np.random.default_rng(4)
    drawn = rng.normal(size=(300, 3, 1)) + rng.normal(0, 0.01, (300, 3, 20))
    alike = MixedModel.of(list(drawn))
    rest = drawn.mean(axis=2) - drawn.mean(axis=(1, 2))[:, None]
    rest -= rest.mean(axis=0)
    pooled = (rest**2).sum() / (299 * 2)
    assert alike.freedom > 20
    assert alike.variances == pytest.approx(np.full(300, pooled), rel=0.5)
    noise = np.exp(rng.normal(0, 1.5, 300))
    uneven = MixedModel.of(list(drawn * noise[:, None, None]))
    assert 2 < uneven.freedom < 5
    assert stats.spearmanr(uneven.variances, noise).statistic > 0.7


@pytest.mark.parametrize(("of_seed", "of_query"), [(0.01, 0.001), (0.01, 0.01), (0.002, 0.01)])
@pytest.mark.parametrize(("count", "seeds"), [(2, 3), (6, 3), (6, 5)])
def test_it_is_wrong_as_often_as_it_says(
    count: int, seeds: int, of_seed: float, of_query: float
) -> None:
    """Cells without a difference, with other seeds and other queries each time."""
    rng = np.random.default_rng(seeds)
    wrong = [
        MixedModel.of(list(cells(rng, count, seeds, of_seed, of_query, q=60))).p(0, 1) < 0.05
        for _ in range(500)
    ]
    assert 0.01 <= np.mean(wrong) <= 0.08


def test_a_t_test_over_seeds_knows_nothing_of_other_queries_and_finds_less() -> None:
    rng = np.random.default_rng(9)

    def found(of_seed: float, of_query: float, difference: float) -> tuple[float, float]:
        """How often the t-test and the mixed model of six cells find something."""
        by_t, mixed = [], []
        for _ in range(300):
            values = cells(rng, 6, 3, of_seed, of_query, q=60)
            values[0] += difference
            means = values.mean(axis=2)
            by_t.append(stats.ttest_rel(means[0], means[1]).pvalue < 0.05)
            mixed.append(MixedModel.of(list(values)).p(0, 1) < 0.05)
        return float(np.mean(by_t)), float(np.mean(mixed))

    by_t, mixed = found(0.002, 0.03, 0)
    assert by_t > 0.15  # these queries favour one of two equal cells
    assert mixed < 0.08
    by_t, mixed = found(0.01, 0.001, 0.03)
    assert mixed > by_t + 0.15


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
    model = MixedModel.of([kept[name] for name in ("a", "b", "c")])
    expected = holm(np.array([model.p(0, 1), model.p(1, 2)]))
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
    everything = holm(np.array([model.p(0, 1), model.p(0, 2), model.p(1, 2)]))
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


def test_the_notes_say_which_test_decided_where_and_what_the_frozen_backbone_has(
    tmp_path: Path,
) -> None:
    """Validations keep no values of their queries."""
    _, made = drawn(tmp_path)
    rng = np.random.default_rng(0)

    def with_more(run: SavedRun) -> SavedRun:
        more = {"val/map": rng.random(), "frozen/val/map": 0.25, "frozen/test/map": 0.125}
        return replace(run, metrics={**run.metrics, **more})

    both = [replace(each, runs=tuple(map(with_more, each.runs))) for each in made]
    notes = explained(compare(both, ["val/map", "test/map"]))
    told = " ".join(notes)
    assert "by the paired t-test over seeds (val MAP), " in told
    assert "by a mixed model of seeds and queries (test MAP), Holm-corrected" in told
    frozen = "The frozen backbone, without training and head: val MAP 0.2500, test MAP 0.1250."
    assert frozen in notes
    run = both[0].runs[0]
    other = replace(run, metrics={**run.metrics, "frozen/val/map": 0.5})
    both[0] = replace(both[0], runs=(other, *both[0].runs[1:]))
    assert "The frozen backbone, without training and head: test MAP 0.1250." in explained(
        compare(both, ["val/map", "test/map"])
    )


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
