"""Heads: pooled features (B, width) -> embeddings (B, D), not yet normalised."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lookalike.errors import InputError


class Identity(nn.Module):
    """No head: the pooled features are the embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding_size = width

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width), unchanged."""
        return features


class Linear(nn.Module):
    """One linear layer with random initial weights.

    Args:
        width: number of features.
        embedding_size: D.
        dropout: probability that a feature is set to 0 in training.
        bias: whether the layer has one.
    """

    def __init__(
        self, width: int, embedding_size: int, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, embedding_size, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width) -> embeddings (B, D)."""
        return self.linear(self.dropout(features))


class PrincipalComponents(nn.Module):
    """A linear layer initialised with the principal components of the training features.

    At first it is the projection that preserves the most variance; training then changes it as any
    other layer. With whitening (Jegou & Chum, ECCV 2012), each component is divided by the power
    `whitening` of its standard deviation, which is taken relative to the first component's.

    Args:
        width: number of features.
        embedding_size: D, at most the width and the number of training images.
        centre: whether the mean training feature is subtracted.
        whitening: in [0, 1]; 0 keeps the variances, 1 makes them equal.

    Raises:
        InputError: there are fewer features than components.
    """

    def __init__(
        self, width: int, embedding_size: int, centre: bool = True, whitening: float = 0.0
    ) -> None:
        super().__init__()
        if embedding_size > width:
            raise InputError(
                f"{width} features have no {embedding_size} principal components. "
                f"Set embedding_size={width} or less."
            )
        self.embedding_size = embedding_size
        self.centre = centre
        self.whitening = whitening
        self.linear = nn.Linear(width, embedding_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width) -> embeddings (B, D)."""
        return self.linear(features)

    @torch.no_grad()
    def start(self, features: Tensor) -> None:
        """Initialise the layer from training features (N, width) float32.

        Raises:
            InputError: there are fewer images than components.
        """
        if len(features) < self.embedding_size:
            raise InputError(
                f"{len(features)} training images give no {self.embedding_size} principal "
                f"components. Set embedding_size={len(features)} or less, or head=linear."
            )
        weight = self._principal_directions(features)
        self.linear.weight.copy_(weight)
        mean = features.mean(0) if self.centre else torch.zeros_like(features[0])
        self.linear.bias.copy_(-weight @ mean)

    def _principal_directions(self, features: Tensor) -> Tensor:
        """(N, width) -> (D, width), the one with the largest variance first, whitened."""
        centred = (features - features.mean(0)).double()
        covariance = centred.T @ centred / len(features)  # (width, width)
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        largest = slice(-self.embedding_size, None)
        spread = (variances[largest] / variances[-1]).clamp(min=1e-9).sqrt()
        scale = spread**-self.whitening
        return (directions[:, largest] * scale).T.flip(0).float()


class Bottleneck(nn.Module):
    """Dropout, a linear layer without bias, batch norm: the head for re-identification.

    Luo et al., CVPR Workshops 2019, "Bag of Tricks and a Strong Baseline", section 3.5.

    Args:
        width: number of features.
        embedding_size: D.
        dropout: probability that a feature is set to 0 in training.
        scale: whether the batch norm learns a scale and a shift.
    """

    def __init__(
        self, width: int, embedding_size: int, dropout: float = 0.2, scale: bool = False
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(width, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size, affine=scale),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width) -> embeddings (B, D)."""
        return self.layers(features)


class MLP(nn.Module):
    """Fully connected layers with ReLU and dropout between them.

    Args:
        width: number of features.
        embedding_size: D, the size of the last layer.
        hidden: sizes of the layers before it.
        dropout: probability that an output of a hidden layer is set to 0 in training.
        activated: whether ReLU and dropout follow the last layer too.
    """

    def __init__(
        self,
        width: int,
        embedding_size: int,
        hidden: Sequence[int] = (1024,),
        dropout: float = 0.0,
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        sizes = (width, *hidden, embedding_size)
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*(layers if activated else layers[:-2]))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width) -> embeddings (B, D)."""
        return self.layers(features)
