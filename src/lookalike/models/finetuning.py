"""Finetuning: which part of a backbone learns, and which keeps still."""

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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
    """

    below: int | None = 0
    batch_norm: bool = False

    def stop_gradients(self, backbone: nn.Module) -> None:
        for layer in self._frozen(backbone):
            layer.requires_grad_(False)

    def hold_still(self, backbone: nn.Module) -> None:
        """Put the frozen layers back into evaluation mode; to be called after `train()`."""
        for layer in self._frozen(backbone):
            layer.eval()
        if self.batch_norm:
            for layer in layers(backbone):
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def _frozen(self, backbone: nn.Module) -> list[nn.Module]:
        return layers(backbone)[: self.below]


def layers(backbone: nn.Module) -> list[nn.Module]:
    """The leaves of a network in order of definition: convolutions, norms, activations ..."""
    return [module for module in backbone.modules() if not list(module.children())]
