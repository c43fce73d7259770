"""A penalty: what is added to the loss so that training stays near its start."""

from typing import Protocol

import torch
from torch import Tensor

from lookalike.models.embedder import Embedder


class Penalty(Protocol):
    """A term of the training loss that remembers the network before training.

    It is no part of what is saved: a resumed training builds the same start again.
    """

    def begin(self, embedder: Embedder, device: torch.device) -> None:
        """Remember the network as it is before training, on the device that trains."""
        ...

    def __call__(self, embedder: Embedder, images: Tensor, embeddings: Tensor) -> Tensor:
        """The weighted term, a scalar.

        Args:
            embedder: as it is now.
            images: of the batch, or their cached features.
            embeddings: (B, D) of the batch, by `embedder`, with gradients.
        """
        ...
