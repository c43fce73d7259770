"""The way into every verb: Hydra composes its configuration, and errors are explained."""

import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lookalike.config import causes, config_folder, gather_overrides, known_names
from lookalike.errors import InputError, did_you_mean

# said of every run, whatever the user does
LIGHTNING_REMARKS = (
    "Experiment logs directory .* exists and is not empty",  # it holds .hydra/ and train.log
    "Checkpoint directory .* exists and is not empty",  # it holds the network before training
    "The number of training batches .* is smaller than the logging interval",  # small data
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own call
    "The '.*_dataloader' does not have many workers",  # the cores decide, or the user
    "Found .* module\\(s\\) in eval mode at the start of training",  # what is frozen
    "It is recommended to use .*sync_dist=True",  # our scores are the same on every rank
    "The dirpath has changed from",  # a resumed run has its own folder
)


def run_verb(verb: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose conf/<verb>.yaml with the command line, run the task, and explain a user's mistakes.

    Exits with 2 where the command, a file or a checkpoint does not fit.
    """
    sys.path.append(os.getcwd())  # a user's own package lies where the command is given
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors reach us instead of Hydra's printer
    for message in LIGHTNING_REMARKS:
        warnings.filterwarnings("ignore", message)
    sys.argv[1:] = gather_overrides(verb, sys.argv[1:])
    main = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(task)
    try:
        main()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"\nlookalike {verb}: {explain(error, verb)}", file=sys.stderr)
        sys.exit(2)


def explain(error: Exception, verb: str) -> str:
    """One message for the user, with the nearest valid name for a misspelt one."""
    if isinstance(error, InputError):
        return str(error).rsplit("InputError: ", 1)[-1]  # a loader's worker wraps it in a traceback
    if isinstance(error, MissingConfigException) and error.options:
        wrong = str(error.missing_cfg_file).rsplit("/", 1)[-1].removesuffix(".yaml")
        return f"{error}{did_you_mean(wrong, error.options)}"
    message = "\n".join(str(part) for part in causes(error))
    misspelt = re.search(
        r"Could not (?:override|append|delete from config) '?\.?([\w.@/]+)'?", message
    )
    if misspelt:
        name = misspelt[1].rstrip(".")
        return f"there is no {name!r} in the configuration.{did_you_mean(name, known_names(verb))}"
    return message
