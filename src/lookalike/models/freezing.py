"""Finetuning: which part of a backbone learns from when on, and which keeps still."""

from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.errors import InputError


@dataclass(frozen=True)
class Thaw:
    """Layers that are frozen at first and learn later, once the head has settled.

    They are in the optimiser from the beginning, without gradients until then: a checkpoint of any
    epoch can be resumed, and the learning-rate schedule knows them.

    Args:
        epoch: epochs that are trained before; from 1 on.
        from_layer: layers from this number on learn then.
    """

    epoch: int
    from_layer: int

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise InputError(f"freeze.thaw.epoch={self.epoch}: need 1 or more; freeze=below at 0")


@dataclass(frozen=True)
class Freeze:
    """What of a backbone does not learn.

    Frozen layers get no gradient and stay in evaluation mode, so that batch norm keeps its
    running statistics and dropout does nothing.

    Args:
        below: layers numbered below this one are frozen; numbers count the layers of `layers()`.
            null freezes all of them.
        batch_norm: whether every batch norm keeps its running statistics (its scale and shift
            learn on where its layer does), as in Musgrave et al., ECCV 2020.
        thaw: what of the frozen layers learns later; null for nothing.
    """

    below: int | None = 0
    batch_norm: bool = False
    thaw: Thaw | None = None

    def stop_gradients(self, backbone: nn.Module) -> None:
        """Raises InputError where no layer would thaw."""
        count, frozen = len(layers(backbone)), len(self._frozen(backbone))
        if self.thaw is not None and not 0 <= self.thaw.from_layer < frozen:
            raise InputError(
                f"freeze.thaw.from_layer={self.thaw.from_layer} thaws nothing: of the {count} "
                f"layers of this backbone {frozen} are frozen. Set it to 0...{frozen - 1}."
            )
        for layer in self._frozen(backbone):
            layer.requires_grad_(False)

    def set_eval_mode(self, backbone: nn.Module) -> None:
        """Put the frozen layers back into evaluation mode; to be called after `train()`."""
        for layer in self._frozen(backbone):
            layer.eval()
        if self.batch_norm:
            for layer in layers(backbone):
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def at(self, epoch: int) -> "Freeze":
        """What holds in an epoch, counted from 0."""
        if self.thaw is None or epoch < self.thaw.epoch:
            return self
        return replace(self, below=self.thaw.from_layer, thaw=None)

    def thawing(self, backbone: nn.Module) -> list[nn.Parameter]:
        """What learns later and not yet."""
        if self.thaw is None:
            return []
        later = self._frozen(backbone)[self.thaw.from_layer :]
        return [parameter for layer in later for parameter in layer.parameters()]

    def _frozen(self, backbone: nn.Module) -> list[nn.Module]:
        return layers(backbone)[: self.below]


def layers(backbone: nn.Module) -> list[nn.Module]:
    """The leaves of a network in order of definition: convolutions, norms, activations ..."""
    return [module for module in backbone.modules() if not list(module.children())]
