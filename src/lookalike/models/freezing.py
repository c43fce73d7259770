"""Finetuning: which layers of a backbone learn, from which epoch on, and which stay frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.errors import InputError
from lookalike.models.blocks import block_names, block_numbers

Unit = Literal["layers", "blocks"]


@dataclass(frozen=True)
class Thaw:
    """Frozen layers that start to learn later, when the head has been trained for a while.

    The optimiser has them from the beginning; until they thaw they have no gradients. So training
    can resume from a checkpoint of any epoch, and the learning-rate schedule covers them.

    epoch: the first epoch in which they learn, counted from 0; 1 or more.
    from_layer: number of the first of these layers, or blocks; see `Freeze.by`.

    Raises:
        InputError: the epoch is below 1.
    """

    epoch: int
    from_layer: int

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise InputError(f"freeze.thaw.epoch={self.epoch}: need 1 or more; freeze=below at 0")


@dataclass(frozen=True)
class Freeze:
    """Which layers of a backbone do not learn.

    Frozen layers get no gradients and stay in evaluation mode: batch norm keeps its running
    statistics, and dropout is off.

    below: layers with a number below this one are frozen, counted from 0; null freezes all of them.
    batch_norm: whether every batch norm keeps its running statistics, as in Musgrave et al., ECCV
        2020; in layers that are not frozen its scale and shift still learn.
    thaw: which frozen layers learn later; null for none.
    by: what is counted: "layers" in the order of `layers()`, or "blocks" (see `block_numbers`).
    """

    below: int | None = 0
    batch_norm: bool = False
    thaw: Thaw | None = None
    by: Unit = "layers"

    def stop_gradients(self, backbone: nn.Module) -> None:
        """Mark the parameters of the frozen layers as not trainable.

        Raises:
            InputError: the backbone has fewer layers, or none would thaw though `thaw` is set.
        """
        count = self._count(backbone)
        frozen = count if self.below is None else self.below
        if not 0 <= frozen <= count:
            raise InputError(
                f"freeze.below={frozen}: this backbone has {count} {self.by}. Set it to "
                f"0...{count}, or to null to freeze all of them."
            )
        if self.thaw is not None and not 0 <= self.thaw.from_layer < frozen:
            raise InputError(
                f"freeze.thaw.from_layer={self.thaw.from_layer} thaws nothing: of the {count} "
                f"{self.by} of this backbone {frozen} are frozen. Set it to 0...{frozen - 1}."
            )
        for parameter in self._parameters(backbone, 0):
            parameter.requires_grad_(False)

    def set_eval_mode(self, backbone: nn.Module) -> None:
        """Set the frozen layers to evaluation mode; call it after every `train()`."""
        for layer, number in zip(layers(backbone), self._of_layers(backbone), strict=True):
            of_batch_norm = self.batch_norm and isinstance(layer, _BatchNorm)
            if of_batch_norm or self.below is None or number < self.below:
                layer.eval()

    def at(self, epoch: int) -> "Freeze":
        """Which layers are frozen in an epoch, counted from 0."""
        if self.thaw is None or epoch < self.thaw.epoch:
            return self
        return replace(self, below=self.thaw.from_layer, thaw=None)

    def thawing(self, backbone: nn.Module) -> list[nn.Parameter]:
        """The frozen parameters that will learn later."""
        return self._parameters(backbone, self.thaw.from_layer) if self.thaw else []

    def description(self, backbone: nn.Module) -> str:
        """What is frozen, for the log; empty if nothing is."""
        frozen = sum(parameter.numel() for parameter in self._parameters(backbone, 0))
        if not frozen:
            return ""
        whole = sum(parameter.numel() for parameter in backbone.parameters())
        names = _layer_names(backbone) if self.by == "layers" else block_names(backbone)
        last = (len(names) if self.below is None else self.below) - 1
        later = ""
        if self.thaw is not None:
            later = (
                f"; from {names[self.thaw.from_layer]} on they learn after {self.thaw.epoch} epochs"
            )
        return (
            f"frozen: {last + 1} of {len(names)} {self.by} ({names[0]} to {names[last]}), "
            f"{frozen:,} of {whole:,} parameters of the backbone{later}"
        )

    def _parameters(self, backbone: nn.Module, first: int) -> list[nn.Parameter]:
        """Those of the frozen layers from a number on."""
        if self.by == "layers":
            groups = parameters_by_layer(backbone)[first : self.below]
            return [parameter for parameters in groups for parameter in parameters]
        numbers = block_numbers(backbone)
        below = self._count(backbone) if self.below is None else self.below
        named = backbone.named_parameters()
        return [parameter for name, parameter in named if first <= numbers[name] < below]

    def _of_layers(self, backbone: nn.Module) -> list[int]:
        """The number of every layer, in the order of `layers()`."""
        if self.by == "layers":
            return list(range(len(layers(backbone))))
        return _blocks_of_layers(backbone, block_numbers(backbone))

    def _count(self, backbone: nn.Module) -> int:
        """How many layers or blocks there are."""
        if self.by == "layers":
            return len(layers(backbone))
        return max(block_numbers(backbone).values(), default=-1) + 1


def layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers of a network in order of definition: its modules without child modules.

    >>> layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    [Linear(in_features=2, out_features=3, bias=True), ReLU()]
    """
    return [module for module in backbone.modules() if not list(module.children())]


def parameters_by_layer(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each layer, in the order of `layers()`.

    A parameter that a module owns beside its layers (a transformer's class token and position
    embedding, a block's layer scale) counts to the first of them.
    """
    found = layers(backbone)
    number = {id(layer): place for place, layer in enumerate(found)}
    parameters = [list(layer.parameters()) for layer in found]
    for module in backbone.modules():
        if id(module) not in number:
            first = next(number[id(each)] for each in module.modules() if id(each) in number)
            parameters[first] += module.parameters(recurse=False)
    return parameters


def _layer_names(backbone: nn.Module) -> list[str]:
    return [name for name, module in backbone.named_modules() if not list(module.children())]


def _blocks_of_layers(backbone: nn.Module, numbers: Mapping[str, int]) -> list[int]:
    """The block of every layer; one without parameters, such as dropout, has that before it."""
    found, last = [], 0
    for name, module in backbone.named_modules():
        if not list(module.children()):
            own = [numbers[f"{name}.{each}"] for each, _ in module.named_parameters()
                   if f"{name}.{each}" in numbers]  # fmt: skip
            last = own[0] if own else last
            found.append(last)
    return found
