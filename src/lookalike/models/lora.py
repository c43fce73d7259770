"""LoRA: frozen weights with a learned product of two thin matrices added. Hu et al., ICLR 2022.

arXiv:2106.09685. Differs from the package peft: the sum replaces the weight itself, as a
parametrization of torch. So it also counts where a network reads a weight without calling its layer
(the attention of BEiT, of torchvision's ViT and Swin), and a convolution needs no other code.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import (
    is_parametrized,
    register_parametrization,
    type_before_parametrizations,
)

from lookalike.errors import InputError

Kind = Literal["linear", "attention"]
KINDS = ("linear", "attention")
OF_ATTENTION = ("attn", "attention")  # in the names of modules, in timm and torchvision
INSIDE = ".parametrizations."  # in the names of what a parametrized module holds


class LowRank(nn.Module):
    """A weight (m, n, ...) plus scale * up (m, rank) @ down (rank, n ...); at first the weight.

    Args:
        weight: to which it is added.
        rank: of the product.
        scale: of the product.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        columns = weight[0].numel()
        self.down = nn.Parameter(torch.empty(rank, columns).uniform_(-1, 1) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(len(weight), rank))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, weight: Tensor) -> Tensor:
        """The sum, in the shape of the weight."""
        return _added(weight, self.up, self.down, self.scale)


@dataclass(frozen=True)
class NoLora:
    """Weights learn themselves."""

    def add_to(self, backbone: nn.Module) -> None:
        """Leave a backbone as it is."""


@dataclass(frozen=True)
class Lora:
    """Only low-rank additions to some weights of a backbone learn.

    Which of them do is left to `Freeze`: those of frozen layers don't.

    rank: of the additions.
    alpha: they are multiplied by alpha / rank, so that another rank needs no other learning rate.
    targets: the weights that get one: "linear", of all linear layers, and of 1 x 1 convolutions,
        which are linear layers of every place (all of them: Dettmers et al., NeurIPS 2023,
        arXiv:2305.14314, section 4); "attention", of the linear layers of attention; or the last
        parts of the names of layers, such as ["qkv", "fc1"].

    Raises:
        InputError: `targets` is something else.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: Kind | Sequence[str] = "linear"

    def __post_init__(self) -> None:
        if isinstance(self.targets, str) and self.targets not in KINDS:
            raise InputError(
                f"lora.targets={self.targets}: it is linear, attention or a list of names, "
                f"[{self.targets}]."
            )

    def add_to(self, backbone: nn.Module) -> None:
        """Freeze a backbone and give it low-rank additions, which learn.

        Raises:
            InputError: it has no such weights.
        """
        found = [each for each in _weights(backbone) if self._is_meant(*each)]
        if not found:
            raise InputError(
                f"lora.targets={self.targets}: this backbone has no such layers. Set it to linear "
                f"or to a list of names: {', '.join(_endings(backbone)) or 'there are none'}."
            )
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)
        for _, module, name in found:
            weight = module.get_parameter(name)
            addition = LowRank(weight, self.rank, self.alpha / self.rank)
            register_parametrization(module, name, addition.to(weight.device))

    def _is_meant(self, path: str, module: nn.Module, name: str) -> bool:
        if self.targets == "linear":
            return True
        if self.targets == "attention":
            return any(part in path for part in OF_ATTENTION) and not _is_convolution(module)
        return path.rpartition(".")[2] in self.targets


def merge(network: nn.Module) -> None:
    """Add low-rank additions to the weights, for good: the network computes and is as without them.

    torch's `remove_parametrizations` would change the class that copies of the network share.

    Args:
        network: changed in place.
    """
    for module in list(network.modules()):
        if _has_addition(module):
            steps: Any = module.parametrizations
            weights = {name: getattr(module, name).detach().clone() for name in steps}
            module.__class__ = type_before_parametrizations(module)
            del module.parametrizations
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight, requires_grad=False))


def merged_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in which low-rank additions are part of the weights, as `merge` makes it."""
    merged: dict[str, Tensor] = {}
    for name, value in state.items():
        module, inside, rest = name.partition(INSIDE)
        weight = rest.split(".")[0]
        parts = [f"{module}{inside}{weight}.0.{part}" for part in ("up", "down", "scale")]
        if not inside or not all(part in state for part in parts):
            merged[name] = value
        elif rest.endswith(".original"):
            up, down, scale = (state[part] for part in parts)
            merged[f"{module}.{weight}"] = _added(value, up, down, scale)
    return merged


def _added(weight: Tensor, up: Tensor, down: Tensor, scale: Tensor) -> Tensor:
    return weight + scale * (up @ down).view(weight.shape)


def _has_addition(module: nn.Module) -> bool:
    made: Any = module  # nn.Module hides what torch's parametrizations add to it
    lists = made.parametrizations.values() if is_parametrized(module) else ()
    return any(isinstance(step, LowRank) for steps in lists for step in steps)


def _weights(backbone: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every linear map: the name of its layer, the module that owns the weight, and its name."""
    for path, module in backbone.named_modules():
        if is_parametrized(module):  # its weight is computed from others
            continue
        if isinstance(module, nn.Linear) or _is_convolution(module):
            yield path, module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield path, module, "in_proj_weight"


def _is_convolution(module: nn.Module) -> bool:
    """Whether it is one of 1 x 1 that mixes all channels."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _endings(backbone: nn.Module) -> list[str]:
    """The last parts of the names of layers that may get an addition."""
    return sorted({path.rpartition(".")[2] for path, _, _ in _weights(backbone)})
