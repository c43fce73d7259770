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
        return features


class Linear(nn.Module):
    """One linear layer, started at random.

    Args:
        width: of the features.
        embedding_size: D.
        dropout: probability on the features.
        bias: whether it has one.
    """

    def __init__(
        self, width: int, embedding_size: int, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, embedding_size, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.dropout(features))


class PrincipalComponents(nn.Module):
    """A linear layer started from the principal components of the frozen training features.

    It then trains as any other. Before training, it is the projection that keeps the most
    variance; with whitening, as in Jegou & Chum, ECCV 2012, components are divided by their
    standard deviation, relative to the first one's, to that power.

    Args:
        width: of the features.
        embedding_size: D, at most the width and the number of training images.
        centre: whether the mean training feature is subtracted.
        whitening: 0 keeps the variances, 1 makes them equal.
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
        return self.linear(features)

    @torch.no_grad()
    def start(self, features: Tensor) -> None:
        """Set the layer from training features (N, width) float32.

        Raises:
            InputError: fewer images than components.
        """
        if len(features) < self.embedding_size:
            raise InputError(
                f"{len(features)} training images give no {self.embedding_size} principal "
                f"components. Set embedding_size={len(features)} or less, or head=linear."
            )
        centred = (features - features.mean(0)).double()
        covariance = centred.T @ centred / len(features)  # (width, width)
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        largest = slice(-self.embedding_size, None)
        spread = (variances[largest] / variances[-1]).clamp(min=1e-9).sqrt()
        scale = spread**-self.whitening
        weight = (directions[:, largest] * scale).T.flip(0).float()  # (D, width), largest first
        self.linear.weight.copy_(weight)
        mean = features.mean(0) if self.centre else torch.zeros_like(features[0])
        self.linear.bias.copy_(-weight @ mean)


class Bottleneck(nn.Module):
    """Dropout, a linear layer without bias, batch norm: the re-identification head.

    Luo et al., CVPR Workshops 2019, "Bag of Tricks and a Strong Baseline", section 3.5.

    Args:
        width: of the features.
        embedding_size: D.
        dropout: probability on the features.
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
        return self.layers(features)


class MLP(nn.Module):
    """Fully connected layers with ReLU and dropout between them.

    Args:
        width: of the features.
        embedding_size: D, the last layer's.
        hidden: sizes of the layers before it.
        dropout: probability after each hidden layer.
        activated: whether the last layer has ReLU and dropout too, as hidden layers have.
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
        return self.layers(features)
