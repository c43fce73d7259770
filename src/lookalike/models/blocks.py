"""The blocks of a network, numbered from the images on: a transformer's, residual ones, layers.

Freezing by depth, learning rates that fall towards the images and gradient checkpointing count
them. A network of timm names its blocks itself, as timm's layer-wise learning-rate decay counts
them. In any other network the sequences that it consists of are searched.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lookalike.compatibility import timm_module

WRAPPERS = re.compile(r"^(network\.)+")  # names of what holds a network in a `Backbone`
SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_numbers(network: nn.Module) -> dict[str, int]:
    """The block of every parameter: dotted name -> number, counted from 0.

    In a sequence each module with parameters is a block, but a norm belongs to the one before it,
    and what a network owns beside its modules, such as a class token, to the first.

    >>> block_numbers(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1, bias=False)))
    {'0.weight': 0, '0.bias': 0, '1.weight': 0, '1.bias': 0, '2.weight': 1}
    """
    prefix, of_timm = _of_timm(network)
    if of_timm is None:
        return _numbered(network)
    group: Any = timm_module().models.group_parameters
    numbers = group(of_timm, of_timm.group_matcher(coarse=False), reverse=True)
    numbers = {f"{prefix}{name}": number for name, number in numbers.items()}
    last = max(numbers.values(), default=0)
    return {name: numbers.get(name, last) for name, _ in network.named_parameters()}


def block_names(network: nn.Module) -> list[str]:
    """What the blocks consist of: for each block the names of its modules.

    >>> block_names(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.ReLU(), nn.Linear(3, 1)))
    ['0, 1', '3']
    """
    parts = _largest_parts(block_numbers(network))
    names: list[list[str]] = [[] for _ in range(max(parts.values(), default=-1) + 1)]
    for part, number in parts.items():
        names[number].append(WRAPPERS.sub("", part))
    return [", ".join(each) for each in names]


def block_modules(network: nn.Module) -> list[str]:
    """The dotted names of the modules that make up the blocks, without single layers."""
    found = {name: module for name, module in network.named_modules() if _is_called(module)}
    return [part for part in _largest_parts(block_numbers(network)) if part in found]


def _is_called(module: nn.Module) -> bool:
    """Whether it is more than one layer, and has a forward pass."""
    listed = type(module) in (nn.ModuleList, nn.ModuleDict)
    return bool(list(module.children())) and not listed and not is_parametrized(module)


def _largest_parts(numbers: Mapping[str, int]) -> dict[str, int]:
    """The largest modules and single parameters that lie in one block, with its number."""
    inside: dict[str, set[int]] = defaultdict(set)
    for name, number in numbers.items():
        for part in _above(name):
            inside[part].add(number)
    largest = (next(part for part in _above(name) if len(inside[part]) == 1) for name in numbers)
    return {part: min(inside[part]) for part in largest}


def _above(name: str) -> list[str]:
    """The dotted names of all modules around a parameter, from the outermost on, and its own."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _of_timm(network: nn.Module) -> tuple[str, Any]:
    """The outermost network of timm inside a module, and the prefix of its names."""
    for name, module in network.named_modules():
        if hasattr(module, "group_matcher"):
            return f"{name}." if name else "", module
    return "", None


def _numbered(network: nn.Module) -> dict[str, int]:
    numbers: dict[str, int] = {}
    last = -1
    for names, begins in _pieces(network, "", _size(network)):
        last += begins
        numbers |= dict.fromkeys(names, max(last, 0))
    return {name: numbers[name] for name, _ in network.named_parameters()}


def _pieces(module: nn.Module, prefix: str, whole: int) -> Iterator[tuple[list[str], bool]]:
    """The names of parameters that stay together, and whether a block begins with them."""
    if not _is_open(module, whole):
        names = [f"{prefix}{name}" for name, _ in module.named_parameters()]
        yield names, any(parameter.ndim > 1 for parameter in module.parameters())
        return
    yield [f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False)], False
    for name, child in module.named_children():
        yield from _pieces(child, f"{prefix}{name}.", whole)


def _is_open(module: nn.Module, whole: int) -> bool:
    """Whether blocks are inside: a sequence of modules, or most of the network.

    A sequence of single layers with a class of its own is a block, such as convolution, norm and
    activation in torchvision.
    """
    children = list(module.children())
    if not children or is_parametrized(module):
        return False
    if isinstance(module, SEQUENCES):
        layered = (list(child.children()) and not is_parametrized(child) for child in children)
        return type(module) in SEQUENCES or any(layered)
    return 2 * _size(module) > whole


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
