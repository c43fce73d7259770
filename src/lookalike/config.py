"""Where conf/ is, compose(), and build(): the only place that makes objects of a configuration."""

import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from lookalike.compatibility import timm_module, torchvision_module
from lookalike.config_folder import config_folder
from lookalike.errors import InputError, did_you_mean
from lookalike.values import check_kinds

_BY_HYDRA = re.compile(r"\$\{(hydra|now):")  # interpolations that only a running Hydra can resolve


def compose(verb: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration that `lookalike VERB OVERRIDES` runs with, for notebooks and scripts.

    What Hydra knows only while it runs (`name`, `paths.run`) is filled in; no folder is made.

    >>> config = compose("train", ["data=flowers", "loss=triplet", "seed=1"])
    >>> config.name
    'flowers_resnet18_triplet_seed1'

    Args:
        verb: such as "train".
        overrides: as on the command line.

    Raises:
        hydra.errors.HydraException: there is no such verb, group, choice or key.
    """
    given = [*gather_overrides(verb, overrides), "hydra.mode=RUN"]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra.compose(verb, given, return_hydra_config=True)
    with hydra_running(config), read_write(config.hydra), open_dict(config):
        config.hydra.runtime.output_dir = os.path.abspath(config.hydra.run.dir)
        for key, value in _leaves(OmegaConf.to_container(config)):
            if isinstance(value, str) and _BY_HYDRA.search(value) and not key.startswith("hydra."):
                OmegaConf.update(config, key, OmegaConf.select(config, key))
        del config["hydra"]
    return config


def build(config: Any, **arguments: Any) -> Any:
    """The object that a config's `_target_` makes, with plain lists and dicts inside.

    Raises:
        InputError: the constructor raised one, or does not take these arguments.
    """
    check_kinds(config)
    try:
        return instantiate(config, _convert_="all", **arguments)
    except (InstantiationException, TypeError) as error:  # Hydra's own: a flag is no flag
        cause = next((part for part in causes(error) if isinstance(part, InputError)), None)
        raise InputError(" ".join(str(cause or error).split())) from error


def as_list(value: Any) -> list[Any]:
    """What may be given once, several times as a list, or not at all (null)."""
    if value is None:
        return []
    return list(value) if isinstance(value, ListConfig) else [value]


def check_arguments(config: Any) -> None:
    """Compare every node that has a `_target_` with the signature it will be called with.

    Raises:
        InputError: a key is no argument, with the nearest that is.
    """
    for node in _nodes(OmegaConf.to_container(config)):
        known = _arguments(get_object(node["_target_"]))
        for key in node:
            if known is not None and not key.startswith("_") and key not in known:
                raise InputError(
                    f"{node['_target_']} takes no {key!r}; it takes {', '.join(known)}."
                    f"{did_you_mean(key, known)} If an experiment of yours sets it for another "
                    f"choice, remove it: ~<group>.{key}."
                )


def gather_overrides(verb: str, arguments: Sequence[str]) -> list[str]:
    """The command line of a verb as Hydra takes it.

    A group set to null is its choice "none". A verb that starts runs of `train` has the key `more`:
    overrides that are for `train` are put into it.
    """
    own = _own_keys(verb)
    arguments = [_none_for_null(each) for each in arguments]
    if "more" not in own:
        return arguments
    overrides = [each for each in arguments if _is_override(each)]
    of_train = [each for each in overrides if subject(each) not in own]
    if not of_train:
        return arguments
    kept = [each for each in arguments if each not in of_train]
    first = next((place for place, each in enumerate(kept) if _is_override(each)), len(kept))
    quoted = ("'" + each.replace("'", "\\'").replace("${", "\\${") + "'" for each in of_train)
    kept.insert(first, f"more=[{','.join(quoted)}]")  # beside the others, or Hydra's parser fails
    return kept


def words(text: str) -> str:
    """A text as a part of a file's name that needs no quotes on a command line.

    >>> words("loss=triplet,data.root=my photos")
    'loss-triplet-data.root-my-photos'
    """
    return re.sub(r"[^\w.+-]+", "-", text)[:80]


def of_timm(setting: str, name: str) -> Any:
    """How the weights of a timm network were trained.

    Args:
        setting: "image_size", "mean", "std", "crop" (share of the resized image) or
            "interpolation".
        name: of the network, with or without a tag of pretrained weights.

    Raises:
        InputError: timm is not installed, or has no such network.
    """
    timm = timm_module()
    trained = timm.get_pretrained_cfg(name)
    if trained is None:
        raise InputError(f"timm has no model {name!r}.{did_you_mean(name, timm.list_models())}")
    if setting == "image_size":
        return trained.input_size[-1]
    if setting == "crop":
        return trained.crop_pct
    value = getattr(trained, setting)
    return ListConfig(list(value)) if setting in ("mean", "std") else value


def of_torchvision(setting: str, name: str) -> Any:
    """How the weights of a torchvision network were trained; the arguments are as for `of_timm`.

    Raises:
        InputError: torchvision has no such classification network.
    """
    models = torchvision_module("models")
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no network {name!r}.{did_you_mean(name, known)}")
    view = models.get_model_weights(name).DEFAULT.transforms()
    own_mean = name in ("inception_v3", "googlenet")  # their weights come from TensorFlow
    return {
        "image_size": view.crop_size[0],
        "mean": ListConfig([0.5] * 3 if own_mean else list(view.mean)),
        "std": ListConfig([0.5] * 3 if own_mean else list(view.std)),
        "crop": view.crop_size[0] / view.resize_size[0],
        "interpolation": view.interpolation.value,
    }[setting]


OmegaConf.register_new_resolver("words", words, replace=True)
OmegaConf.register_new_resolver("timm", of_timm, replace=True)
OmegaConf.register_new_resolver("torchvision", of_torchvision, replace=True)


def _none_for_null(argument: str) -> str:
    """The same, but for a group that is set to null, which Hydra can't."""
    group, equals, choice = argument.partition("=")
    if not equals or not (config_folder() / group / "none.yaml").is_file():
        return argument
    return f"{group}={','.join('none' if each == 'null' else each for each in choice.split(','))}"


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def subject(override: str) -> str:
    """What an override is about, such as "data" of "+data.fold=1"."""
    found = re.match(r"[+~]*(\w+)", override)
    return found[1] if found else ""


def known_names(verb: str, choices: Sequence[str] = ()) -> list[str]:
    """Every key of a verb's configuration, dotted, and every group.

    Args:
        verb: such as "train".
        choices: of groups, as overrides: what is chosen decides which keys there are.
    """
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra.compose(verb, list(choices))
    folders = (folder for folder in config_folder().iterdir() if folder.is_dir())
    groups = [folder.name for folder in folders if folder.name != "base"]
    return [*_dotted(OmegaConf.to_container(config)), *groups]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__


@contextmanager
def hydra_running(config: DictConfig) -> Iterator[None]:
    """Answers `${hydra:...}` from a composed configuration, as inside of Hydra's main."""
    hydra_config = HydraConfig.instance()
    before = hydra_config.cfg
    hydra_config.cfg = config  # type: ignore[assignment]  # set_config would copy it
    try:
        yield
    finally:
        hydra_config.cfg = before


@cache
def _own_keys(verb: str) -> frozenset[str]:
    """The groups and keys at the top of conf/<verb>.yaml."""
    file = config_folder() / f"{verb}.yaml"
    if not file.is_file():
        return frozenset()
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    groups = [next(iter(entry)) for entry in content.get("defaults", []) if isinstance(entry, dict)]
    return frozenset([*content, *(group.split(" ")[-1].strip("/") for group in groups)])


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
    """Every key of nested dicts, dotted."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{above}{key}"
            yield from _dotted(value, f"{above}{key}.")


def _leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no container, with its key, dotted."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield from _leaves(value, f"{above}{key}.")
    else:
        yield above.removesuffix("."), node
