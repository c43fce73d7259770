"""Pooling: a feature map (B, C, h, w) -> features (B, C), or (B, C h w)."""

import torch
from torch import Tensor, nn


class AveragePooling(nn.Module):
    """The mean over positions."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return features.mean(dim=(2, 3))


class Flatten(nn.Module):
    """No pooling: the features of all positions side by side; all images must have one size."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C h w)."""
        return features.flatten(1)


class GeMPooling(nn.Module):
    """Generalised mean. Radenovic et al., TPAMI 2019, arXiv:1711.02512, equation 4.

    Args:
        power: 1 is the average; large powers approach the maximum.
        learn: whether the power is a parameter, trained with the head.
        eps: the least activation; lower ones are raised to it, since powers of negative numbers
            are undefined.
    """

    def __init__(self, power: float = 3.0, learn: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power), requires_grad=learn)
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C) float32."""
        raised = features.float().clamp(min=self.eps).pow(self.power)
        return raised.mean(dim=(2, 3)).pow(1 / self.power)
