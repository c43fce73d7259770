"""Contrastive loss with squared distances, as first defined."""

import torch
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor, nn

from lookalike.data.mining import Pairs, Triplets, matches


class SquaredContrastiveLoss(nn.Module):
    """Contrastive. Hadsell et al., CVPR 2006, equation 4, without its factor of one half.

    The mean over all pairs of D^2 for positive ones and max(0, margin - D)^2 for negative ones,
    where D is the Euclidean distance. pytorch-metric-learning's loss does not square, and averages
    positive and negative pairs separately, each over the pairs above zero.

    Differs: embeddings have length 1 here, so D is at most 2. With a margin of 2, negative pairs
    are pushed apart until they are opposite.

    Args:
        margin: negative pairs at this distance or more cost nothing, in (0, 2].
    """

    def __init__(self, margin: float = 2.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self, embeddings: Tensor, labels: Tensor, indices: Pairs | Triplets | None = None
    ) -> Tensor:
        """Embeddings (B, D), labels (B,) int64, mined indices or None for every pair -> scalar.

        The loss of a batch without any pair is 0.
        """
        if indices is None:
            return self._of_all_pairs(embeddings, labels)
        first, second, third, fourth = convert_to_pairs(indices, labels)
        positive = (embeddings[first] - embeddings[second]).square().sum(1)  # (P,)
        distance = torch.linalg.vector_norm(embeddings[third] - embeddings[fourth], dim=1)
        costs = torch.cat([positive, self._negative(distance)])
        return costs.sum() / max(1, len(costs))

    def _of_all_pairs(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        positive, negative = matches(labels, labels)
        distance = torch.cdist(embeddings, embeddings)  # differences would take (B, B, D)
        costs = distance.square() * positive + self._negative(distance) * negative
        return costs.sum() / (positive | negative).sum().clamp(min=1)

    def _negative(self, distance: Tensor) -> Tensor:
        return (self.margin - distance).clamp(min=0).square()
