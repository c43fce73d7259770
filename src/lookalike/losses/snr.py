"""Contrastive loss on the signal-to-noise ratio of embeddings."""

from typing import Any

import torch
from pytorch_metric_learning import distances, losses
from torch import Tensor


class SNRDistance(distances.SNRDistance):
    """The variance of the difference divided by the variance of the anchor.

    Yuan et al., CVPR 2019, arXiv:1904.02616. Value and gradient are pytorch-metric-learning's,
    which stores all differences, (B, R, D). Up to a factor that cancels, the variance of a
    difference is the squared distance of two centred vectors, so (B, R) is enough.
    """

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Anchors (B, D), references (R, D) -> distances (B, R), at least 0."""
        signals = query_emb - query_emb.mean(1, keepdim=True)
        others = ref_emb - ref_emb.mean(1, keepdim=True)
        exact = "donot_use_mm_for_euclid_dist"  # equal images are at distance 0
        noise = torch.cdist(signals, others, compute_mode=exact).square()
        return noise / signals.square().sum(1, keepdim=True)


class SignalToNoiseRatioContrastiveLoss(losses.SignalToNoiseRatioContrastiveLoss):
    """Contrastive loss on `SNRDistance`; arguments are pytorch-metric-learning's."""

    def get_default_distance(self) -> Any:
        """The distance that is used unless another is given."""
        return SNRDistance()
