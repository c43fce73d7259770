"""Finetuning: which layers of a backbone learn, from which epoch on, and which stay frozen."""

from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.errors import InputError


@dataclass(frozen=True)
class Thaw:
    """Frozen layers that start to learn later, when the head has been trained for a while.

    The optimiser has them from the beginning; until they thaw they have no gradients. So training
    can resume from a checkpoint of any epoch, and the learning-rate schedule covers them.

    epoch: the first epoch in which they learn, counted from 0; 1 or more.
    from_layer: number of the first of these layers; see `Freeze.below`.

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

    below: layers with a number below this one are frozen, counted from 0 in the order of
        `layers()`; null freezes all of them.
    batch_norm: whether every batch norm keeps its running statistics, as in Musgrave et al., ECCV
        2020; in layers that are not frozen its scale and shift still learn.
    thaw: which frozen layers learn later; null for none.
    """

    below: int | None = 0
    batch_norm: bool = False
    thaw: Thaw | None = None

    def stop_gradients(self, backbone: nn.Module) -> None:
        """Mark the parameters of the frozen layers as not trainable.

        Raises:
            InputError: no layer would thaw later, though `thaw` is set.
        """
        count, frozen = len(layers(backbone)), len(self._frozen(backbone))
        if self.thaw is not None and not 0 <= self.thaw.from_layer < frozen:
            raise InputError(
                f"freeze.thaw.from_layer={self.thaw.from_layer} thaws nothing: of the {count} "
                f"layers of this backbone {frozen} are frozen. Set it to 0...{frozen - 1}."
            )
        for parameters in parameters_by_layer(backbone)[: self.below]:
            for parameter in parameters:
                parameter.requires_grad_(False)

    def set_eval_mode(self, backbone: nn.Module) -> None:
        """Set the frozen layers to evaluation mode; call it after every `train()`."""
        for layer in self._frozen(backbone):
            layer.eval()
        if self.batch_norm:
            for layer in layers(backbone):
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def at(self, epoch: int) -> "Freeze":
        """Which layers are frozen in an epoch, counted from 0."""
        if self.thaw is None or epoch < self.thaw.epoch:
            return self
        return replace(self, below=self.thaw.from_layer, thaw=None)

    def thawing(self, backbone: nn.Module) -> list[nn.Parameter]:
        """The frozen parameters that will learn later."""
        if self.thaw is None:
            return []
        later = parameters_by_layer(backbone)[self.thaw.from_layer : self.below]
        return [parameter for parameters in later for parameter in parameters]

    def _frozen(self, backbone: nn.Module) -> list[nn.Module]:
        return layers(backbone)[: self.below]


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
