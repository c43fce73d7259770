"""Centroid triplet loss. Wieczorek et al., ICONIP 2021, arXiv:2104.13643, equation 2."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class CentroidTripletLoss(nn.Module):
    """Pulls each embedding to the mean of its class, and pushes it away from other classes' means.

    The embedding itself is left out of its class's mean. Differs: all other classes of the batch
    are negatives, not a random one, and the loss is the mean over the violating triplets.

    Args:
        margin: between squared Euclidean distances, which are in [0, 4] for unit vectors.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 -> scalar, 0 without a violating triplet.

        Mined `indices` are ignored, since centroids need whole classes. The only image of a class
        is no anchor.
        """
        classes, own = labels.unique(return_inverse=True)
        every_class = torch.arange(len(classes), device=own.device)
        member = (own[:, None] == every_class).to(embeddings.dtype)  # (B, C)
        counts = member.sum(0)  # (C,)
        sums = member.T @ embeddings  # (C, D)
        others = (sums[own] - embeddings) / (counts[own] - 1).clamp(min=1)[:, None]  # (B, D)
        positive = (embeddings - others).square().sum(1)  # (B,)
        negative = torch.cdist(embeddings, sums / counts[:, None]).square()  # (B, C)
        violation = relu(positive[:, None] - negative + self.margin)
        valid = (member == 0) & (counts[own] > 1)[:, None]
        violation = violation * valid
        return violation.sum() / (violation > 0).sum().clamp(min=1)
