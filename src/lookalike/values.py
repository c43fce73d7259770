"""What a setting may be: its kind by the annotation of what takes it, its range by its name."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf, isnan
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lookalike.errors import InputError

PLAIN = (bool, int, float, str, NoneType)
WORDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null",
}  # fmt: skip
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


class Range(NamedTuple):
    """What a number may be.

    kind: an annotation.
    least: the smallest.
    most: the largest.
    """

    kind: Any
    least: float
    most: float = inf


SIDE = Range(int | Sequence[int] | None, 1, 2**14)  # pixels; 2**14 squared is a gigabyte
SEED = Range(int, 0, 2**32 - 1)  # as numpy takes them
COUNT = Range(int, 1, 2**24)
SHARE = Range(float, 0, 1)
RATE = Range(float, 0, 1e6)
LIMIT = Range(int | float, 0)
# by the last part of a key
RANGES: dict[str, Range] = {
    "seed": SEED, "view_seed": SEED,
    "threads": Range(int | None, 1, 1024), "num_workers": Range(int | None, 0, 1024),
    "batch_size": COUNT, "eval_batch_size": COUNT, "images_per_class": COUNT,
    "chunk_size": Range(int | None, 1, 2**24), "batches_per_epoch": Range(int | None, 1, 2**31),
    "embedding_size": Range(int | None, 1, 2**20),
    "species": COUNT, "images_per_species": COUNT, "feature_views": Range(int, 0, 2**10),
    "crop_size": SIDE, "image_size": SIDE, "size": SIDE, "resize": SIDE,
    "min_scale": Range(float, 1e-6, 1), "warmup": SHARE, "dropout": SHARE,
    "backbone": RATE, "thawed": RATE, "head": RATE, "loss": RATE, "learning_rate": RATE,
    "layer_decay": Range(float, 1e-3, 1), "decay_norms": Range(bool, 0),
    "checkpoint_gradients": Range(bool, 0), "decay": SHARE, "rank": COUNT,
    "weight_decay": RATE, "momentum": SHARE, "alpha": Range(float, 0),
    "eps": Range(float, 0), "betas": Range(Sequence[float], 0, 1),
    "max_epochs": Range(int, 0, 2**31), "max_steps": Range(int, -1, 2**62),
    "check_val_every_n_epoch": Range(int, 1), "accumulate_grad_batches": Range(int, 1, 2**31),
    "log_every_n_steps": Range(int, 1), "num_sanity_val_steps": Range(int, -1),
    "gradient_clip_val": Range(float | None, 0), "limit_train_batches": LIMIT,
    "limit_val_batches": LIMIT, "limit_test_batches": LIMIT, "devices": Range(int | str | list, -1),
    "every_minutes": Range(float | None, 0), "patience": Range(int, 0, 2**31),
    "planned_epochs": Range(int | None, 1, 2**31), "trials": COUNT, "closeups": Range(int, 0),
    "queries": COUNT, "pairs_of": COUNT, "mapped": COUNT, "top": COUNT,
    "channels_last": Range(bool, 0), "near_duplicates": Range(bool, 0), "vote": Range(bool, 0),
    "embed": Range(bool, 0), "change": Range(bool, 0), "status": Range(bool, 0),
    "threshold": Range(float, -inf), "rotation": Range(float, 0, 360),
    "path": Range(str | None, 0),
}  # fmt: skip
LATER = (("precision", "auto"), ("num_classes", None), ("embedding_size", None))  # `train` knows
ONLY_IN = {  # names that mean a rate in one place only
    **dict.fromkeys(("backbone", "thawed", "head", "loss"), "learning_rate"),
    "alpha": "optimizer",
}  # fmt: skip


def check_ranges(config: DictConfig) -> None:
    """Compare every value with the range of its name; nothing is imported.

    Raises:
        InputError: one is out of its range, or of another kind.
    """
    raw: Any = OmegaConf.to_container(config)
    for key, value in _leaves(_resolved(config)):
        above, _, name = key.rpartition(".")
        wanted = RANGES.get(name)
        if wanted is None or _is_elsewhere(name, above, value) or not _is_plain(value):
            continue
        if not fits(value, wanted.kind) or not all(
            wanted.least <= each <= wanted.most for each in _numbers(value)
        ):
            raise InputError(f"{_meant(key, raw)}={_shown(value)}: need {_described(wanted)}.")


def check_kinds(config: Any) -> None:
    """Compare every argument of what a configuration builds with its annotation.

    Arguments without one are compared with the kind of their default.

    Args:
        config: a node of a configuration; what its `_target_`s name is imported.

    Raises:
        InputError: an argument is of another kind.
    """
    above, raw = "", {}
    if isinstance(config, DictConfig):
        above = config._get_full_key(None) or ""
        raw = OmegaConf.to_container(config._get_root())
        config = _resolved(config)
    for place, node in _nodes(config, above):
        kinds = _kinds_of_target(node["_target_"])
        for name, value in node.items():
            if name in kinds and (name, value) not in LATER and not fits(value, kinds[name]):
                key = _meant(f"{place}.{name}".lstrip("."), raw)
                raise InputError(f"{key}={_shown(value)}: need {in_words(kinds[name])}.")


def _kinds_of_target(name: Any) -> dict[str, Any]:
    """Of what a `_target_` names; none where it names nothing, which building says."""
    try:
        return kinds_of(get_object(name))
    except (ImportError, ValueError, AttributeError, TypeError):
        return {}


def kinds_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what a call takes, by name, through the bases of a class."""
    calls: list[Any] = [target]
    if inspect.isclass(target):
        calls = [each.__init__ for each in target.__mro__[:-1] if "__init__" in vars(each)]
    kinds: dict[str, Any] = {}
    for call in calls:
        kinds = _kinds(call) | kinds
    return kinds


def fits(value: Any, kind: Any) -> bool:
    """Whether plain data may be given where an annotation stands; an object may, by its `_target_`.

    >>> fits(1, float), fits("two", int | None), fits([1, 2], Sequence[int])
    (True, False, True)
    """
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any or _is_open(value):
        return True
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inside)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in inside)
    if kind is None:
        return value is None
    if kind in PLAIN:
        return type(value) is kind or (kind is float and type(value) is int)
    holder = origin or kind
    if not inspect.isclass(holder):
        return True  # a type variable, or an annotation of another kind
    if isinstance(value, list):
        return _takes_list(holder) and all(fits(each, (*inside, Any)[0]) for each in value)
    if isinstance(value, dict):
        if not issubclass(holder, Mapping):
            return False
        return len(inside) < 2 or all(fits(each, inside[1]) for each in value.values())
    return holder is object or (holder.__name__ in ("Path", "PathLike") and isinstance(value, str))


def in_words(kind: Any) -> str:
    """An annotation as a user reads it.

    >>> in_words(int | None), in_words(Literal["last", "none"])
    ('a whole number or null', 'last or none')
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(in_words, inside)))
    if origin is Literal:
        return " or ".join(map(str, inside))
    if kind in WORDS:
        return WORDS[kind]
    if inspect.isclass(origin or kind) and _takes_list(origin or kind):
        return f"a list, each {in_words(inside[0])}" if inside else "a list"
    return "an object, by _target_"


def _is_open(value: Any) -> bool:
    """Whether it is an object that is built, or a value that is missing or can't be resolved."""
    if isinstance(value, dict):
        return "_target_" in value
    return isinstance(value, str) and (value == "???" or "${" in value)


def _resolved(config: DictConfig) -> Any:
    """As plain data; with its references where one of them can't be resolved."""
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(config)


def _takes_list(holder: type) -> bool:
    return holder is object or issubclass(list, holder) or holder in (tuple, set)


def _kinds(call: Any) -> dict[str, Any]:
    """The annotations of one call; the kind of the default stands for one that is missing."""
    hints: dict[str, Any] = {}
    with suppress(Exception):  # names that only a type checker knows
        hints = get_type_hints(call)
    kinds = {}
    for name, parameter in inspect.signature(call).parameters.items():
        default = parameter.default
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name in hints:
            default = list(default) if isinstance(default, tuple) else default
            honest = not _is_plain(default) or fits(default, hints[name])
            kinds[name] = hints[name] if honest else Any
        elif type(default) in (bool, int, float):
            kinds[name] = bool if type(default) is bool else float
        elif type(default) is str:
            kinds[name] = str
    return kinds


def _nodes(node: Any, above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict with a `_target_`, at any depth, with its key, dotted."""
    if isinstance(node, dict) and "_target_" in node:
        yield above, node
    pairs: Any = node.items() if isinstance(node, dict) else ()
    if isinstance(node, list):
        pairs = enumerate(node)
    for name, child in pairs:
        yield from _nodes(child, f"{above}.{name}".lstrip("."))


def _leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dicts, with its key, dotted; lists are values."""
    for name, value in node.items():
        key = f"{above}.{name}".lstrip(".")
        yield key, value
        if isinstance(value, dict):
            yield from _leaves(value, key)


def _is_elsewhere(name: str, above: str, value: Any) -> bool:
    """Whether a name means something else in this place.

    A reader of data may call a word by a name that is a number's elsewhere, as in
    data.source.size=small; its annotation says what it takes.
    """
    place = above.rpartition(".")[2]
    if place == "source" and isinstance(value, str):
        return True
    return name in ONLY_IN and place != ONLY_IN[name]


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a text, null, or a list of these."""
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return type(value) in PLAIN and not _is_open(value)


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    numbers = [each for each in values if type(each) in (int, float)]
    return [-inf if isnan(each) else each for each in numbers]


def _meant(key: str, raw: Any) -> str:
    """The key that the user set: the one that a value refers to, if it does."""
    found = raw
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    refers = _REFERENCE.fullmatch(found) if isinstance(found, str) else None
    return _meant(refers[1], raw) if refers else key


def _described(wanted: Range) -> str:
    kind = in_words(wanted.kind)
    if "number" not in kind or wanted.least == -inf:
        return kind
    number, _, other = kind.partition(" or ")
    limits = f" from {wanted.least:g}"
    limits += " on" if wanted.most == inf else f" to {wanted.most:.10g}"
    return f"{number}{limits}{' or ' if other else ''}{other}"


def _shown(value: Any) -> str:
    """As it stands on a command line."""
    text = {True: "true", False: "false", None: "null"}.get(value) if _is_word(value) else None
    return text or str(value)[:80]


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)
