"""The way into every verb: Hydra composes its configuration, and errors are explained."""

import gc
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from math import prod
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lookalike.command_line import command
from lookalike.commands.folders import gone_if_not_started
from lookalike.commands.quoting import remedy, with_texts
from lookalike.commands.requeue import is_requeued, requeue
from lookalike.commands.shortage import explained_shortage
from lookalike.config import causes, config_folder, gather_overrides, known_names, subject
from lookalike.errors import InputError, UnreadableFilesError, did_you_mean
from lookalike.files import explained
from lookalike.interruption import Interrupted, interruption
from lookalike.memory import keep_freed_memory
from lookalike.values import check_ranges

# said of every run, whatever the user does
LIGHTNING_REMARKS = (
    "Experiment logs directory .* exists and is not empty",  # it holds .hydra/ and train.log
    "Checkpoint directory .* exists and is not empty",  # it holds the network before training
    "The number of training batches .* is smaller than the logging interval",  # small data
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own call
    "The '.*_dataloader' does not have many workers",  # the cores decide, or the user
    "Found .* module\\(s\\) in eval mode at the start of training",  # what is frozen
    "It is recommended to use .*sync_dist=True",  # our scores are the same on every rank
    "You're resuming from a checkpoint that ended before the epoch",  # with its next batch
    "The `srun` command is available on your system but is not used",  # of every machine with Slurm
)
SEVERAL = {"-m", "--multirun", "hydra.mode=MULTIRUN"}  # arguments that ask for a sweep
REPEATING = ("seed", "data.fold", "logger")  # keys that only repeat a cell of a sweep
# overrides that are not the user's, but of a sweep or of Lightning, for another process
NOT_GIVEN = ("hydra.job.config.", "hydra.job.name=train_ddp_process_", "hydra.output_subdir=null")
ELSEWHERE = {  # names that other programs have, and what is meant here
    **dict.fromkeys(
        ("lr", "optimizer.lr", "optimizer.learning_rate"),
        "learning_rate.backbone, learning_rate.head or learning_rate.loss",
    ),
    **dict.fromkeys(("loss.scope", "learner.scope", "trainer.loss_scope"), "loss_scope"),
    **dict.fromkeys(("batch_size", "sampler.batch_size"), "data.batch_size"),
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs"), "trainer.max_epochs"),
    **dict.fromkeys(("weights", "pretrained", "backbone.pretrained"), "backbone.weights"),
}


def run_verb(verb: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose conf/<verb>.yaml with the command line, run the task, and explain a user's mistakes.

    Exits with 2 where the command, a file or a checkpoint does not fit, and with 128 + its number
    after a signal.
    """
    keep_freed_memory()
    gc.enable()  # which `lookalike` has switched off, as importing makes no garbage
    sys.path.append(os.getcwd())  # a user's own package lies where the command is given
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors reach us instead of Hydra's printer
    for message in LIGHTNING_REMARKS:
        warnings.filterwarnings("ignore", message)

    @wraps(task)
    def start(config: DictConfig) -> Any:
        # one run tells its error before Hydra, which would print all overrides above it
        with (
            nullcontext() if _is_swept() else _told_in_one_line(verb),
            gone_if_not_started(Path(config.paths.run)),
            explained_shortage(config),
        ):
            check_ranges(config)
            return task(config)

    main = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(start)
    try:
        with interruption.heard(), _told_in_one_line(verb):
            sys.argv[1:] = _as_hydra_takes_them(verb, sys.argv[1:])
            main()
    except Interrupted as stop:
        if any(os.environ.get(rank, "0") != "0" for rank in ("LOCAL_RANK", "SLURM_PROCID")):
            sys.exit(0)  # the first process tells, and Lightning kills it if another one fails
        print(f"\nlookalike {verb}: stopped by {stop}. {stop.advice}".rstrip(), file=sys.stderr)
        if stop.signum == signal.SIGUSR1:
            requeue()
        sys.exit(128 + stop.signum)


def _is_swept() -> bool:
    """Whether this is a run of a sweep, whose launcher wants to hear of its errors."""
    return HydraConfig.get().mode is RunMode.MULTIRUN


@contextmanager
def _told_in_one_line(verb: str) -> Iterator[None]:
    """A user's mistake ends the program with its explanation and exit code 2."""
    try:
        with explained():
            yield
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"\nlookalike {verb}: {explain(error, verb)}", file=sys.stderr)
        sys.exit(2)


def _as_hydra_takes_them(verb: str, arguments: Sequence[str]) -> list[str]:
    texts = [with_texts(argument) for argument in arguments]
    given = gather_overrides(verb, [*texts, *only_what_is_swept(texts)])
    goes_on = is_requeued() or any(each.startswith("resume=") for each in given)
    if verb == "train" and goes_on:
        from lookalike.commands.resume import after_requeue, expanded  # with torch

        return expanded(after_requeue(given) if is_requeued() else given)
    return given


def explain(error: Exception, verb: str) -> str:
    """One message for the user, with the nearest valid name for a misspelt one."""
    if isinstance(error, InputError):
        # a loader's worker wraps it in a traceback
        message = str(error).rsplit(f"{type(error).__name__}: ", 1)[-1]
        given = about_data()
        if isinstance(error, UnreadableFilesError) and any(
            each.startswith("data=") for each in given
        ):
            return f"{message}\n{command('prepare', *given)}"
        return message
    if isinstance(error, OverrideParseException) and remedy(error.override):
        return (
            f"Hydra's grammar can't take {error.override}: some signs mean something else to it. "
            f"Put its value in quotes: {remedy(error.override)}"
        )
    if isinstance(error, MissingConfigException) and error.options:
        group, _, wrong = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        hint = did_you_mean(wrong, error.options)
        return f"there is no {group}={wrong}.{hint} `lookalike {verb} --help {group}` lists all."
    message = "\n".join(str(part) for part in causes(error))
    if "InputError raised while resolving interpolation: " in message:
        return message.split("interpolation: ", 1)[1].splitlines()[0]
    misspelt = re.search(
        r"Could not (?:override|append|delete from config) '?\.?([\w.@/]+)'?", message
    )
    if misspelt:
        name = misspelt[1].rstrip(".")
        return f"there is no {name!r} in the configuration.{_hint(name, verb)}"
    return message


def again(verb: str, more: Sequence[str] = ()) -> str:
    """The command that was given, with further overrides, to be copied.

    Args:
        verb: such as "train".
        more: overrides that follow.
    """
    own = [each for each in sys.argv[1:] if not each.startswith(NOT_GIVEN)]
    return command(verb, *own, *more)


def about_data() -> list[str]:
    """The arguments by which a user chose the data."""
    return [each for each in sys.argv[1:] if subject(each) == "data"]


def config_folders() -> list[str]:
    """The arguments by which a user added folders of configurations."""
    sources = HydraConfig.get().runtime.config_sources
    return [f"--config-dir={each.path}" for each in sources if each.provider == "command-line"]


def planned_jobs() -> int:
    """How many jobs a multirun has, by the command line and what a sweep chose."""
    swept = HydraConfig.get().sweeper.get("params") or {}
    parser = OverridesParser.create()
    given = [f"{key}={value}" for key, value in swept.items()]
    given += [each for each in sys.argv[1:] if re.match(r"[+~]*[\w./@]+=", each)]
    overrides = {each.key_or_group: each for each in parser.parse_overrides(given)}
    sweeps = [each for each in overrides.values() if each.is_sweep_override()]
    return prod(len(list(each.sweep_iterator())) for each in sweeps)


def _hint(name: str, verb: str) -> str:
    """What was meant, by a key of another program or by the nearest one here."""
    if name in ELSEWHERE:
        return f" Set {ELSEWHERE[name]}."
    try:
        chosen = re.compile(r"hydra\.searchpath=.*|\w+=\w+")
        known = known_names(verb, [each for each in sys.argv[1:] if chosen.fullmatch(each)])
    except (HydraException, OmegaConfBaseException):  # there may be more than one mistake
        known = known_names(verb)
    moved = [key for key in known if key.endswith(f".{name}")]  # miner lives at data.miner
    if moved:
        return f" Did you mean {' or '.join(moved)}?"
    at_the_top = [key for key in known if "." not in key]
    return did_you_mean(name, at_the_top if "." not in name else known) or did_you_mean(name, known)


def only_what_is_swept(arguments: Sequence[str]) -> list[str]:
    """An override by which the folders of a sweep are named after what is swept alone."""
    if not SEVERAL & set(arguments):
        return []
    parser = OverridesParser.create()
    given = [each for each in arguments if re.match(r"[+~]*[\w./@]+=", each)]
    fixed = [
        override.key_or_group
        for override in parser.parse_overrides(given)
        if not override.is_sweep_override() and not override.key_or_group.startswith("hydra")
    ]
    excluded = ",".join(f"'{key}'" for key in (*REPEATING, *fixed))
    return [f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]"]
