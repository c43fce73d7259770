"""Losses of positive pairs against all negatives, summed once for each anchor.

pytorch-metric-learning builds matrices of every positive by every negative pair. These grow with
the cube of the batch or faster: 0.5 GB each for 256 images, 8 a class. But all positive pairs of
an anchor share its negatives, so one sum for each anchor is enough.
"""

from typing import Any

import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn.functional import relu, softplus

from lookalike.data.mining import Pairs


class NTXentLoss(losses.NTXentLoss):
    """NT-Xent. Sohn, NeurIPS 2016; Chen et al., ICML 2020, arXiv:2002.05709.

    Arguments, value and gradient are pytorch-metric-learning's.
    """

    def pair_based_loss(self, mat: Tensor, indices_tuple: Pairs) -> dict[str, dict[str, Any]]:
        """Similarities or distances (B, R), pairs -> the costs of the positive pairs (P,)."""
        anchors, positives, negative_anchors, negatives = indices_tuple
        if len(anchors) == 0 or len(negative_anchors) == 0:
            return self.zero_losses()
        pos_pairs, neg_pairs = mat[anchors, positives], mat[negative_anchors, negatives]
        sign = 1 if self.distance.is_inverted else -1
        negatives = logsumexp_by_anchor(
            sign * neg_pairs / self.temperature, negative_anchors, max(mat.shape)
        )
        costs = softplus(negatives[anchors] - sign * pos_pairs / self.temperature)
        return _of_pairs(costs, anchors, positives)


class LiftedStructureLoss(losses.LiftedStructureLoss):
    """Lifted structure. Oh Song et al., CVPR 2016, arXiv:1511.06452, equation 4.

    Arguments, value and gradient are pytorch-metric-learning's. Differs: a pair whose images have
    no negatives, because a miner left none, costs nothing.
    """

    def pair_based_loss(self, mat: Tensor, indices_tuple: Pairs) -> dict[str, dict[str, Any]]:
        """Similarities or distances (B, R), pairs -> the costs of the positive pairs (P,)."""
        anchors, positives, negative_anchors, negatives = indices_tuple
        if len(anchors) == 0 or len(negative_anchors) == 0:
            return self.zero_losses()
        pos_pairs, neg_pairs = mat[anchors, positives], mat[negative_anchors, negatives]
        negatives = logsumexp_by_anchor(
            self.distance.margin(self.neg_margin, neg_pairs),
            negative_anchors,
            max(mat.shape),
        )
        either = torch.logaddexp(negatives[anchors], negatives[positives])
        # with PML's memory an anchor and a positive may have the same index: count it once
        either = either.where(anchors != positives, negatives[anchors])
        costs = relu(either + self.distance.margin(pos_pairs, self.pos_margin)).square() / 2
        return _of_pairs(costs, anchors, positives)


class TupletMarginLoss(losses.TupletMarginLoss):
    """Tuplet margin. Yu & Tao, ICCV 2019.

    Arguments, value and gradient are pytorch-metric-learning's. Differs: a pair with cosine 1, such
    as two equal images, has no gradient here and NaN there, as the slope of acos is infinite.
    """

    def pair_based_loss(self, mat: Tensor, indices_tuple: Pairs) -> dict[str, dict[str, Any]]:
        """Similarities or distances (B, R), pairs -> the costs of the positive pairs (P,)."""
        anchors, positives, negative_anchors, negatives = indices_tuple
        if len(anchors) == 0 or len(negative_anchors) == 0:
            return self.zero_losses()
        pos_pairs, neg_pairs = mat[anchors, positives], mat[negative_anchors, negatives]
        negatives = logsumexp_by_anchor(self.scale * neg_pairs, negative_anchors, max(mat.shape))
        most = 1 - torch.finfo(pos_pairs.dtype).eps
        eased = torch.cos(pos_pairs.clamp(-most, most).acos() - self.margin)
        costs = softplus(negatives[anchors] - self.scale * eased)
        return _of_pairs(costs, anchors, positives)


def logsumexp_by_anchor(values: Tensor, anchors: Tensor, size: int) -> Tensor:
    """The logarithm of the sum of exponentials of each anchor's values.

    Args:
        values: (N,) floating point.
        anchors: (N,) int64 in 0..size-1, the anchor of each value.
        size: A, the number of anchors.

    Returns:
        (A,); the least finite number, without a gradient, for an anchor without values.
    """
    limits = torch.finfo(values.dtype)
    top = values.new_full((size,), limits.min)
    top = top.scatter_reduce(0, anchors, values.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, anchors, (values - top[anchors]).exp())
    return top + total.clamp(min=limits.tiny).log()


def _of_pairs(costs: Tensor, anchors: Tensor, positives: Tensor) -> dict[str, dict[str, Any]]:
    """The costs of positive pairs (P,), as pytorch-metric-learning's reducers expect them."""
    return {
        "loss": {"losses": costs, "indices": (anchors, positives), "reduction_type": "pos_pair"}
    }
