"""Pooling: a feature map (B, C, h, w) -> (B, C), or (B, C h w)."""

import torch
from torch import Tensor, nn


class AveragePooling(nn.Module):
    """The mean over positions."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))


class Flatten(nn.Module):
    """No pooling: every position keeps its own features, (B, C h w). Images have one size then."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(1)


class GeMPooling(nn.Module):
    """Generalised mean. Radenovic et al., TPAMI 2019, arXiv:1711.02512, equation 4.

    Args:
        power: 1 is the average, towards infinity the maximum.
        learn: whether the power is a parameter, trained with the head.
        eps: activations below it count as it; the power of a negative number is not defined.
    """

    def __init__(self, power: float = 3.0, learn: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power), requires_grad=learn)
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        raised = features.float().clamp(min=self.eps).pow(self.power)
        return raised.mean(dim=(2, 3)).pow(1 / self.power)
