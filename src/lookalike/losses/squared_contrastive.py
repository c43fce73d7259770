"""Contrastive loss with squares, as it was first defined."""

import torch
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor, nn

from lookalike.data.mining import Pairs, Triplets, matches


class SquaredContrastiveLoss(nn.Module):
    """Contrastive. Hadsell et al., CVPR 2006, equation 4, without its factor of one half.

    The mean over all pairs of D^2 if they are positive and max(0, margin - D)^2 if not, D being the
    Euclidean distance. pytorch-metric-learning's does not square, and averages positive and
    negative pairs separately, over those above zero.

    Differs: embeddings have length 1 here, so D is at most 2. With a margin of 2, negative pairs
    are pushed until they are opposite.

    Args:
        margin: distance from which on a negative pair costs nothing, in (0, 2].
    """

    def __init__(self, margin: float = 2.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self, embeddings: Tensor, labels: Tensor, indices: Pairs | Triplets | None = None
    ) -> Tensor:
        """embeddings (B, D), labels (B,), mined indices (null for every pair) -> scalar; 0
        without any pair."""
        if indices is None:
            positive, negative = matches(labels, labels)
            distance = torch.cdist(embeddings, embeddings)  # differences would be (B, B, D)
            costs = distance.square() * positive + self._negative(distance) * negative
            return costs.sum() / (positive | negative).sum().clamp(min=1)
        first, second, third, fourth = convert_to_pairs(indices, labels)
        positive = (embeddings[first] - embeddings[second]).square().sum(1)  # (P,)
        distance = torch.linalg.vector_norm(embeddings[third] - embeddings[fourth], dim=1)
        costs = torch.cat([positive, self._negative(distance)])
        return costs.sum() / max(1, len(costs))

    def _negative(self, distance: Tensor) -> Tensor:
        return (self.margin - distance).clamp(min=0).square()
