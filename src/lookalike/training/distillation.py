"""Distillation of the start: embeddings stay near those of the network before training.

Hinton et al., arXiv:1503.02531, with embeddings for logits; as a remedy for forgetting, Li & Hoiem,
"Learning without forgetting", ECCV 2016, arXiv:1606.09282.
"""

from copy import deepcopy

import torch
from torch import Tensor

from lookalike.models.embedder import Embedder


class Distillation:
    """weight x the mean of 1 - cos between an image's embedding and the one at the start.

    At length 1 that is half the squared distance. The start sees the same views; with cached
    features it is its head alone.

    Args:
        weight: of the term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.teacher: list[Embedder] = []  # in a list: the learner must not save it

    def begin(self, embedder: Embedder, device: torch.device) -> None:
        """Keep a copy of the network, in evaluation mode."""
        self.teacher = [deepcopy(embedder).to(device).requires_grad_(False).eval()]

    def __call__(self, embedder: Embedder, images: Tensor, embeddings: Tensor) -> Tensor:
        """The term of a batch, a scalar."""
        (teacher,) = self.teacher
        with torch.no_grad():
            wanted = teacher(images)  # (B, D), of length 1
        return self.weight * (1 - (embeddings * wanted).sum(1)).mean()
