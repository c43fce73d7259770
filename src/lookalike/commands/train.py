"""lookalike train: fit, choose by validation, test once; writes a run folder."""

import csv
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from lookalike.command_line import command
from lookalike.commands.folders import used_alone
from lookalike.commands.requeue import note_folder
from lookalike.commands.resume import check_parts
from lookalike.commands.verb import again, config_folders, planned_jobs, run_verb
from lookalike.config import subject
from lookalike.errors import InputError, did_you_mean
from lookalike.interruption import Interrupted
from lookalike.training.companions import ending_together
from lookalike.training.resume import is_resumable, score_of_same
from lookalike.training.run import train as train_once


def train(config: DictConfig) -> float:
    """One run; what Hydra alone knows is checked first. Returns the monitored score.

    A run of a multirun that was started before is left as it is if it is finished, and goes on if
    it was cut off.
    """
    _check_choices()
    several = HydraConfig.get().mode == RunMode.MULTIRUN
    folder = Path(config.paths.run)
    if not rank_zero_only.rank:
        sweep = Path(HydraConfig.get().sweep.dir)
        note_folder(Path(config.paths.outputs), sweep if several else folder)

    def advice() -> str:
        return _advice_to_several() if several else _advice(folder)

    try:
        if several and (score := score_of_same(config, folder)) is not None:
            print(f"{folder} is finished already")
            return score
        if several and is_resumable(folder):
            config.resume.path = str(folder)
        elif config.resume.path is not None:
            check_parts(config)
        with _alone_or_joined(folder), ending_together(partial(_tell_of_a_loss, advice)):
            score = train_once(config)
        if not (several or rank_zero_only.rank):
            _say_next(config, folder)
        return score
    except Interrupted as stop:
        stop.advice = advice()
        raise


def _say_next(config: DictConfig, folder: Path) -> None:
    """Commands that make something of a finished run, with the better network of its two."""
    start = folder / "checkpoints" / "start.ckpt"  # kept where training made the network worse
    tested = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["checkpoint"]
    network = start if start.is_file() else tested
    image = _test_image(config, folder / "split.csv")
    print("\nNext:", command("report", f"runs={folder}"))
    print("     ", command("search", f"images={image}", f"checkpoint={network}", "k=5"))


def _test_image(config: DictConfig, split: Path) -> Path:
    """The first image of the test."""
    with open(split, encoding="utf-8", newline="") as stream:
        paths = (row["path"] for row in csv.DictReader(stream) if row["split"] == "test")
        return Path(config.data.root or "", next(paths, "photo.jpg"))


def _alone_or_joined(folder: Path) -> AbstractContextManager[None]:
    """The folder for this process; another rank joins the one that has it."""
    return nullcontext() if rank_zero_only.rank else used_alone(folder)


def _tell_of_a_loss(advice: Callable[[], str], what: str) -> None:
    print(f"\nlookalike train: {what} {advice()}", file=sys.stderr)


def _advice(folder: Path) -> str:
    """The command that goes on with a run."""
    if not is_resumable(folder):
        return f"Nothing was saved yet. Start it again: {again('train')}"
    beside = [each for each in sys.argv[1:] if each.startswith(("paths.", "trust=", "hydra.s"))]
    beside += config_folders()
    resume = command("train", f"resume={folder}", *beside)
    return f"The last checkpoint is {folder / 'checkpoints' / 'last.ckpt'}. Go on: {resume}"


def _advice_to_several() -> str:
    """How many runs of a multirun are done, and the command that does the rest."""
    sweep = HydraConfig.get().sweep.dir
    done = len(list(Path(sweep).glob("*/metrics.json")))
    named = any(each.startswith("hydra.sweep.dir=") for each in sys.argv)
    more = [] if named else [f"hydra.sweep.dir='{sweep}'"]
    return f"{done} of {planned_jobs()} runs are done. Go on: {again('train', more)}"


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
