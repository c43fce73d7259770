"""Which parts a file may name, so that a checkpoint never decides what code runs.

A checkpoint carries a configuration, and a configuration names constructors. What a user types may
name anything. What a file says must be a known part: a class of lookalike's own rooms, a layer of
torch, torchvision or timm, a part of a loss of pytorch-metric-learning.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hydra.utils import get_object
from torch import nn

from lookalike.errors import InputError

CLASSES_OF = (
    "lookalike.data.sources",
    "lookalike.data.transforms",
    "lookalike.losses",
    "lookalike.models",
)
FUNCTIONS = (
    "lookalike.data.transforms.centred",
    "lookalike.models.backbones.torchvision_backbone",
    "lookalike.models.siamese.siamese_backbone",
    "lookalike.models.timm_backbone.timm_backbone",
)
LAYERS_OF = ("pytorch_metric_learning", "timm", "torch.nn", "torchvision")


def check_trusted(config: Any, trust: Sequence[str] = (), known: Collection[str] = ()) -> None:
    """Raises InputError where plain data from a file name a part that is not known.

    The object counts and not its name: `torch.nn.os.system` is no part of torch. Only packages of
    the fixed list are imported to look at it.

    Args:
        config: every `_target_` in it, at any depth, is checked.
        trust: further packages whose parts may be named; a user's decision.
        known: further parts of lookalike's, for a room that builds more than a network.
    """
    for key, value in _strings(config):
        if key == "_target_" and value not in known and not _is_known(value, trust):
            raise InputError(
                f"the checkpoint names {value}, which is no part that lookalike knows, and a file "
                "must not choose what code runs. If you trust where it comes from, say so: "
                f"trust={value.partition('.')[0]}."
            )
        if "${" in value:  # a saved configuration is resolved
            raise InputError(f"the checkpoint's configuration refers to {value}, which it must not")


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of nested dicts and lists, with its key."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _strings(child, str(name))
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _strings(child, key)
    elif isinstance(node, str) or key == "_target_":
        yield key, str(node)


def _is_known(target: str, trust: Sequence[str]) -> bool:
    if _is_below(target, trust) or target in FUNCTIONS:
        return True
    if not _is_below(target, (*CLASSES_OF, *LAYERS_OF)):
        return False
    try:
        found: Any = get_object(target)
    except (ImportError, ValueError) as error:
        raise InputError(f"the checkpoint names {target}, which is not there ({error})") from error
    if not isinstance(found, type):
        return False
    if _is_below(found.__module__, LAYERS_OF):
        return issubclass(found, nn.Module)
    return _is_below(found.__module__, CLASSES_OF)


def _is_below(name: str, parents: Sequence[str]) -> bool:
    """Whether a dotted name is one of the parents or lies below one."""
    return any(f"{name}.".startswith(f"{parent}.") for parent in parents)
