"""The cells of a comparison: settings that seeds and folds repeat, and what their scores say.

The rule for folds is that of `evaluation.statistics`: scores are averaged over the folds of each
seed, and a seed with a missing fold is left out. Only folds that all trained settings have are
counted; if they have none in common, each setting shows its own folds and nothing is tested.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isnan
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.classification import CLASSIFICATION
from lookalike.evaluation.mixed_model import MixedModel
from lookalike.evaluation.statistics import mean_interval, p_against, per_seed
from lookalike.reports.by_query import tables_of
from lookalike.reports.saved import SavedRun

Test = Literal["mixed model", "t-test"]

ALPHA = 0.05
NOT_SIGNIFICANT = "≈"
ENOUGH = 3  # seeds from which on an interval is shown; that of two is 6 times as wide as of three
TESTED = 150  # settings whose pairs are tested, at most: there are 11,000 of them
NAMED_TESTS: dict[Test, str] = {
    "mixed model": "a mixed model of seeds and queries",
    "t-test": "the paired t-test over seeds",
}
LOWER_IS_BETTER = {metric.name for metric in CLASSIFICATION if not metric.higher_is_better}

Repetition = tuple[Hashable, Hashable]  # (seed, fold)
Grid = NDArray[np.float64]  # (S, F), scores by seed and fold, NaN where a run is missing


@dataclass(frozen=True, eq=False)
class Setting:
    """Finished runs that differ in nothing but their seed and their fold.

    Args:
        values: of the hyper-parameters that differ between settings, by key.
        runs: its repetitions.
        name: what a table calls it, if not by its values.
        beside: texts of further columns of the table, by title.
    """

    values: dict[str, Any]
    runs: tuple[SavedRun, ...]
    name: str = ""
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What was chosen, such as "loss=triplet, embedding_size=64"."""
        named = (f"{key}={shown(value)}" for key, value in self.values.items())
        return self.name or ", ".join(named)

    @property
    def trained(self) -> bool:
        """Whether it is more than a starting point that was measured."""
        return any(run.trained for run in self.runs)

    def numbers(self, metric: str) -> dict[Repetition, float]:
        """A metric by (seed, fold); runs that repeat both are averaged."""
        found: dict[Repetition, list[float]] = defaultdict(list)
        for run in self.runs:
            if (value := run.number(metric)) is not None:
                found[run.seed, run.fold].append(value)
        return {repetition: float(np.mean(values)) for repetition, values in found.items()}


@dataclass(frozen=True)
class Score:
    """A metric of a setting over its complete seeds, each the mean of its folds.

    Args:
        mean: NaN where no seed is complete.
        half_width: of the 95 % t-interval; NaN where fewer than three seeds are.
        lowest: of the seeds.
        highest: of the seeds.
        seeds: how many are complete.
        p: of the difference from the best setting or the reference, corrected; null where nothing
            was tested, 1 where one seed tells nothing.
        test: by which p was found.
        p_t: the same by the paired t-test over seeds.
    """

    mean: float
    half_width: float
    lowest: float
    highest: float
    seeds: int
    p: float | None = None
    test: Test | None = None
    p_t: float | None = None

    def __str__(self) -> str:
        """0.8100 ± 0.0248, of two seeds 0.6670 (0.6000 - 0.7330), of one 0.5000; - of none.

        What is not significantly different from the best is marked.
        """
        mark = f" {NOT_SIGNIFICANT}" if self.p is not None and self.p > ALPHA else ""
        return f"{self.interval}{mark}"

    @property
    def interval(self) -> str:
        """The same without the mark."""
        if self.seeds == 0:
            return "-"
        if self.seeds == 1:
            return f"{self.mean:.4f}"
        if self.seeds < ENOUGH:
            return f"{self.mean:.4f} ({self.lowest:.4f} - {self.highest:.4f})"
        return f"{self.mean:.4f} ± {self.half_width:.4f}"


@dataclass(frozen=True, eq=False)
class Line:
    """A setting in a comparison.

    Args:
        setting: what was run.
        scores: by metric.
    """

    setting: Setting
    scores: dict[str, Score]


def compare(
    settings: Sequence[Setting], metrics: Sequence[str], reference: str | None = None
) -> list[Line]:
    """The scores of settings, in their order, with p-values of those that were trained.

    Args:
        metrics: such as "test/map_at_r".
        reference: label of the setting that the others are compared with; null takes the best.
    """
    by_metric = {metric: _scores(settings, metric, reference) for metric in metrics}
    return [
        Line(setting, {metric: scores[place] for metric, scores in by_metric.items()})
        for place, setting in enumerate(settings)
    ]


def best_first(lines: Sequence[Line], metrics: Sequence[str]) -> list[Line]:
    """What was not trained stands above all, then the best by the first metric that a line has."""

    def place(line: Line) -> tuple[bool, float]:
        found = ((line.scores[metric].mean, direction(metric)) for metric in metrics)
        value = next((mean * sign for mean, sign in found if not isnan(mean)), -inf)
        return line.setting.trained, -value

    return sorted(lines, key=place)


def direction(metric: str) -> int:
    """1 of a metric that is better the higher it is, -1 of one that is better the lower."""
    return -1 if metric.rpartition("/")[2] in LOWER_IS_BETTER else 1


def shared_folds(settings: Sequence[Setting], metric: str) -> list[Hashable]:
    """The folds that count: those that all trained settings with this metric have.

    A setting has the largest set of folds that one of its seeds has.
    """
    trained = [setting for setting in settings if setting.trained] or settings
    found = [_folds(numbers) for setting in trained if (numbers := setting.numbers(metric))]
    return [fold for fold in found[0] if all(fold in other for other in found)] if found else []


def seeds_of(settings: Sequence[Setting], metric: str) -> list[Hashable]:
    """The seeds that some setting has, in the order in which they are met."""
    numbers = [setting.numbers(metric) for setting in settings]
    return list(dict.fromkeys(seed for found in numbers for seed, _ in found))


def grids_of(settings: Sequence[Setting], metric: str) -> list[Grid]:
    """Scores by seed and fold, (S, F) a setting: the seeds of all, and the folds that count.

    If no folds are shared, each setting has its own, and F may differ.
    """
    numbers = [setting.numbers(metric) for setting in settings]
    seeds, folds = seeds_of(settings, metric), shared_folds(settings, metric)
    return [_grid(found, seeds, folds or _folds(found)) for found in numbers]


def shown(value: Any) -> str:
    """A value of a configuration as it is written there."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scores(settings: Sequence[Setting], metric: str, reference: str | None) -> list[Score]:
    """One a setting."""
    grids = grids_of(settings, metric)
    tested = shared_folds(settings, metric)
    found = _tested(settings, grids, metric, reference) if tested else {}
    return [_score(per_seed(grid), found.get(place)) for place, grid in enumerate(grids)]


class _Tested(NamedTuple):
    """What a test says of a setting; see `Score`."""

    p: float
    test: Test
    p_t: float


def _score(seeds: NDArray[np.float64], tested: _Tested | None) -> Score:
    """Of the values of complete seeds, (S,)."""
    found = mean_interval(seeds)
    half_width = found.half_width if found.n >= ENOUGH else np.nan
    lowest, highest = (float(seeds.min()), float(seeds.max())) if found.n else (np.nan, np.nan)
    score = Score(found.mean, half_width, lowest, highest, found.n)
    return score if tested is None else replace(score, **tested._asdict())


def _folds(numbers: Mapping[Repetition, float]) -> list[Hashable]:
    """The largest set of folds that a seed has; of equally large ones the most frequent."""
    by_seed: dict[Hashable, list[Hashable]] = defaultdict(list)
    for seed, fold in numbers:
        by_seed[seed].append(fold)
    sets = Counter(frozenset(folds) for folds in by_seed.values())
    largest = max(sets, key=lambda folds: (len(folds), sets[folds]), default=frozenset())
    return [fold for fold in dict.fromkeys(fold for _, fold in numbers) if fold in largest]


def _grid(
    numbers: Mapping[Repetition, float], seeds: Sequence[Hashable], folds: Sequence[Hashable]
) -> Grid:
    found = [[numbers.get((seed, fold), np.nan) for fold in folds] for seed in seeds]
    return np.array(found, dtype=np.float64).reshape(len(seeds), max(1, len(folds)))


def _tested(
    settings: Sequence[Setting], grids: Sequence[Grid], metric: str, reference: str | None
) -> dict[int, _Tested]:
    """By place, of the trained settings with a complete seed; none if no two seeds repeat one."""
    seeds = [len(per_seed(grid)) for grid in grids]
    taking_part = [p for p, setting in enumerate(settings) if setting.trained and seeds[p]]
    if not 2 <= len(taking_part) <= TESTED or max(seeds[p] for p in taking_part) < 2:
        return {}
    labels = [settings[place].label for place in taking_part]
    if reference is not None and reference not in labels:
        return {}
    scores = direction(metric) * np.stack([grids[place] for place in taking_part])
    against = None if reference is None else labels.index(reference)
    p_values, test = differences([settings[p] for p in taking_part], metric, scores, against)
    by_t = p_against(scores, against)
    rows = zip(p_values.tolist(), by_t.tolist(), strict=True)
    return {place: _Tested(p, test, p_t) for place, (p, p_t) in zip(taking_part, rows, strict=True)}


def differences(
    settings: Sequence[Setting], metric: str, scores: NDArray[np.float64], against: int | None
) -> tuple[NDArray[np.float64], Test]:
    """Corrected p-values (settings,), and the test: the mixed model where all runs kept the values
    of their queries and asked the same ones, the paired t-test otherwise.

    Args:
        settings: with shared folds.
        metric: such as "test/map_at_r".
        scores: (settings, S, F), the higher the better.
        against: number of a setting; None for the best one.
    """
    seeds, folds = seeds_of(settings, metric), shared_folds(settings, metric)
    tables = tables_of(settings, metric, seeds, folds)
    if tables is None or not (model := MixedModel.of(tables)).is_tested:
        return p_against(scores, against), "t-test"
    return p_against(scores, against, model.p), "mixed model"
