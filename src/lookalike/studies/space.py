"""What a search may vary: keys of `train`'s configuration, each with a range or choices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lookalike.errors import InputError


@dataclass(frozen=True)
class Tuning:
    """A search for values of some keys.

    Args:
        every: overrides of `lookalike train` for every trial, one an entry.
        space: by key: {low, high} of a number, with log: true for one whose magnitude matters, or
            {choices: [...]}. A range of two integers is one of integers.
        folds: values of data.fold; the score of a trial is the mean of their best validation
            scores, and one that is behind is pruned after any of them.
        trials: how many; the first has the values that the configuration has anyway.
        seed: of training and of the search.
        reproductions: seeds for the benchmark of the best against the default; none of them the
            search's, or the best would be measured by the luck that chose it.

    Raises:
        InputError: nothing is to be searched, a range is none, or a seed is used twice.
    """

    every: Sequence[str]
    space: Mapping[str, Mapping[str, Any]]
    folds: Sequence[int] = (0, 1, 2, 3)
    trials: int = 15
    seed: int = 0
    reproductions: Sequence[int] = (1, 2, 3)

    def __post_init__(self) -> None:
        if not self.space or not self.folds or self.trials < 1:
            raise InputError("a search needs a space, folds, and trials of 1 or more")
        if self.seed in self.reproductions:
            raise InputError(
                f"tune.reproductions holds {self.seed}, the seed of the search: choose fresh ones"
            )
        self.distributions()

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's, by key."""
        return {key: _distribution(key, dict(given)) for key, given in self.space.items()}

    def defaults(self, config: DictConfig) -> dict[str, Any]:
        """The values that a composed configuration has, by key of the space.

        Args:
            config: of `train`.

        Raises:
            InputError: one lies outside its range, so that the search could not start from it.
        """
        values = {key: OmegaConf.select(config, key) for key in self.space}
        for key, given in self.space.items():
            if not _lies_in(values[key], given):
                raise InputError(
                    f"{key} is {values[key]} without the search, outside {dict(given)}: widen "
                    f"tune.space.{key}, so that the default takes part."
                )
        return values


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Values by key, as on a command line.

    >>> overrides_of({"loss.margin": 0.2})
    ['loss.margin=0.2']
    """
    return [f"{key}={value}" for key, value in values.items()]


def _lies_in(value: Any, given: Mapping[str, Any]) -> bool:
    """Whether a value is one of the choices, or in the range, its ends included."""
    if "choices" in given:
        return value in given["choices"]
    return isinstance(value, int | float) and given["low"] <= value <= given["high"]


def _distribution(key: str, given: dict[str, Any]) -> BaseDistribution:
    """Optuna's, of one key of the space."""
    try:
        if "choices" in given:
            return CategoricalDistribution(**given)
        whole = all(isinstance(given[end], int) for end in ("low", "high"))
        return (IntDistribution if whole else FloatDistribution)(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"tune.space.{key}={given} is no range ({error}): give low and high, and log if its "
            "magnitude matters, or choices."
        ) from error
