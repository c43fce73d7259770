"""Where conf/ is, how a verb starts, and build(): the only place that makes objects of a config."""

import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lookalike.errors import InputError

# said of every run, whatever the user does
LIGHTNING_REMARKS = (
    "Experiment logs directory .* exists and is not empty",  # it holds .hydra/ and train.log
    "The number of training batches .* is smaller than the logging interval",  # so be it
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own call
    "The '.*_dataloader' does not have many workers",  # the cores decide, or the user
    "Found .* module\\(s\\) in eval mode at the start of training",  # what is frozen
    "It is recommended to use .*sync_dist=True",  # our scores are the same on every rank
    "The dirpath has changed from",  # a resumed run has its own folder
)
BEFORE_TRAINING = "before training"
# groups and keys that say how training goes on, not where it starts
NOT_THE_START = (
    "callbacks", "distance", "learner", "learning_rate", "loss", "miner", "optimizer", "reducer",
    "regularizer", "sampler", "scheduler", "data.batch_size", "data.miner", "data.sampler",
)  # fmt: skip
_PACKAGE = Path(__file__).resolve().parent


def config_folder() -> Path:
    """conf/ inside the installed package, or beside src/ in a checkout."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "conf"


def build(config: Any, **arguments: Any) -> Any:
    """The object that a config's `_target_` makes, with plain lists and dicts inside.

    Raises:
        InputError: the constructor raised one, or does not take these arguments.
    """
    try:
        return instantiate(config, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = _first_input_error(error)
        raise InputError(str(cause or error)) from error


def as_list(value: Any) -> list[Any]:
    """What may be given once, several times as a list, or not at all (null)."""
    if value is None:
        return []
    return list(value) if isinstance(value, ListConfig) else [value]


def gather_overrides(arguments: Sequence[str], own: Sequence[str]) -> list[str]:
    """The command line of a verb that starts runs of `train`, whose overrides go into more=[...].

    Args:
        arguments: as they were given.
        own: groups and keys of the verb itself.
    """
    kept, others = [], []
    for argument in arguments:
        is_override = "=" in argument or argument.startswith("~")
        of_train = is_override and not argument.startswith("-") and subject(argument) not in own
        (others if of_train else kept).append(argument)
    quoted = ("'" + other.replace("'", "\\'") + "'" for other in others)
    return [*kept, f"more=[{','.join(quoted)}]"] if others else kept


def subject(override: str) -> str:
    """What an override is about, such as "data" of "+data.fold=1"."""
    found = re.match(r"[+~]*(\w+)", override)
    return found[1] if found else ""


def check_arguments(config: Any) -> None:
    """Compare every node that has a `_target_` with the signature it will be called with.

    Raises:
        InputError: a key is no argument, with the nearest that is.
    """
    for node in _nodes(OmegaConf.to_container(config, resolve=True)):
        known = _arguments(get_object(node["_target_"]))
        for key in node:
            if known is not None and not key.startswith("_") and key not in known:
                raise InputError(
                    f"{node['_target_']} takes no {key!r}; it takes {', '.join(known)}."
                    f"{_nearest(key, list(known))}"
                )


def run_verb(verb: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose conf/<verb>.yaml with the command line, run the task, and explain what can be mended.

    Exits with 2 where the command, a file or a checkpoint does not fit.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors reach us instead of Hydra's printer
    for message in LIGHTNING_REMARKS:
        warnings.filterwarnings("ignore", message)
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
        return f"{error}{_nearest(wrong, error.options)}"
    message = "\n".join(str(part) for part in _chain(error))
    misspelt = re.search(
        r"Could not (?:override|append|delete from config) '?\.?([\w.@/]+)'?", message
    )
    if misspelt:
        name = misspelt[1].rstrip(".")
        return f"there is no {name!r} in the configuration.{_nearest(name, _names(verb))}"
    return message


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_input_error(error: BaseException) -> InputError | None:
    return next((part for part in _chain(error) if isinstance(part, InputError)), None)


def _nearest(wrong: str, names: Sequence[str]) -> str:
    close = get_close_matches(wrong, names, 3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _names(verb: str) -> list[str]:
    """Every key of a verb's configuration, dotted, and every group."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra.compose(verb)
    groups = [folder.name for folder in config_folder().iterdir() if folder.is_dir()]
    return [*_dotted(OmegaConf.to_container(config)), *groups]


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every dict with a `_target_`, at any depth."""
    if isinstance(node, dict) and "_target_" in node:
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _nodes(child)


def _arguments(target: Callable[..., Any]) -> list[str] | None:
    """The names a call takes, through the constructors that a class hands its `**options` up to;
    null where it may be any name."""
    calls = [target]
    if inspect.isclass(target):
        calls = [each.__init__ for each in target.__mro__[:-1] if "__init__" in vars(each)]
    names = []
    for call in calls or [target]:
        parameters = inspect.signature(call).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names += [each.name for each in parameters if each.kind in named and each.name != "self"]
        if all(each.kind is not each.VAR_KEYWORD for each in parameters):
            return list(dict.fromkeys(names))
    return None


def _dotted(node: Any, above: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{above}{key}"
            yield from _dotted(value, f"{above}{key}.")
