"""lookalike train: fit, choose by validation, test once; writes a run folder."""

from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from lookalike.commands.folders import used_alone
from lookalike.commands.verb import run_verb
from lookalike.config import subject
from lookalike.errors import InputError, did_you_mean
from lookalike.training.run import train as train_once


def train(config: DictConfig) -> float:
    """One run; what Hydra alone knows is checked first. Returns the monitored score."""
    _check_choices()
    if rank_zero_only.rank:  # it joins the process that has the folder
        return train_once(config)
    with used_alone(Path(config.paths.run)):
        return train_once(config)


def _check_choices() -> None:
    given = HydraConfig.get()
    choices = given.runtime.choices
    if choices.get("sweep", "none") != "none" and given.mode == RunMode.RUN:
        raise InputError(
            f"sweep={choices['sweep']} is for several runs: add -m, as in `lookalike train -m "
            f"sweep={choices['sweep']}`."
        )
    loader = GlobalHydra.instance().config_loader()
    recipes = loader.get_group_options("recipe")
    if "recipe" in map(subject, given.overrides.task) and choices["recipe"] not in recipes:
        raise InputError(
            f"there is no recipe={choices['recipe']}; there are {', '.join(recipes)}."
            f"{did_you_mean(choices['recipe'], recipes)}"
        )


if __name__ == "__main__":
    run_verb("train", train)
