"""Losses of positive pairs against all negatives, summed once for each anchor.

pytorch-metric-learning makes a matrix of every positive pair by every negative pair, which grows
with the cube of the batch and more: 0.5 GB each for 256 images, 8 a class. The negatives of a
pair are those of its anchor, though, so their sum is the same for all of the anchor's pairs.
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

    def _compute_loss(
        self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: Pairs
    ) -> dict[str, dict[str, Any]]:
        anchors, positives, negative_anchors, _ = indices_tuple
        if len(anchors) == 0 or len(negative_anchors) == 0:
            return self.zero_losses()
        sign = 1 if self.distance.is_inverted else -1
        negatives = logsumexp_by_anchor(
            sign * neg_pairs / self.temperature, negative_anchors, _size(indices_tuple)
        )
        costs = softplus(negatives[anchors] - sign * pos_pairs / self.temperature)
        return _of_pairs(costs, anchors, positives)


class LiftedStructureLoss(losses.LiftedStructureLoss):
    """Lifted structure. Oh Song et al., CVPR 2016, arXiv:1511.06452, equation 4.

    Arguments, value and gradient are pytorch-metric-learning's, except that a pair whose
    images have no negatives (a miner left none) costs nothing.
    """

    def _compute_loss(
        self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: Pairs
    ) -> dict[str, dict[str, Any]]:
        anchors, positives, negative_anchors, _ = indices_tuple
        if len(anchors) == 0 or len(negative_anchors) == 0:
            return self.zero_losses()
        negatives = logsumexp_by_anchor(
            self.distance.margin(self.neg_margin, neg_pairs),
            negative_anchors,
            _size(indices_tuple),
        )
        either = torch.logaddexp(negatives[anchors], negatives[positives])
        # the same index twice: a positive's place in a memory, which PML compares all the same
        either = either.where(anchors != positives, negatives[anchors])
        costs = relu(either + self.distance.margin(pos_pairs, self.pos_margin)).square() / 2
        return _of_pairs(costs, anchors, positives)


class TupletMarginLoss(losses.TupletMarginLoss):
    """Tuplet margin. Yu & Tao, ICCV 2019.

    Arguments, value and gradient are pytorch-metric-learning's. Differs: where a pair's cosine is
    1, as of equal images, and its angle has no slope, theirs makes NaN and this no gradient.
    """

    def _compute_loss(
        self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: Pairs
    ) -> dict[str, dict[str, Any]]:
        anchors, positives, negative_anchors, _ = indices_tuple
        if len(anchors) == 0 or len(negative_anchors) == 0:
            return self.zero_losses()
        negatives = logsumexp_by_anchor(
            self.scale * neg_pairs, negative_anchors, _size(indices_tuple)
        )
        most = 1 - torch.finfo(pos_pairs.dtype).eps
        eased = torch.cos(pos_pairs.clamp(-most, most).acos() - self.margin)
        costs = softplus(negatives[anchors] - self.scale * eased)
        return _of_pairs(costs, anchors, positives)


def logsumexp_by_anchor(values: Tensor, anchors: Tensor, size: int) -> Tensor:
    """The logarithm of each anchor's sum of exponentials.

    Args:
        values: (N,).
        anchors: (N,), in 0..size-1.

    Returns:
        (size,); the least finite number, without a gradient, for an anchor without values.
    """
    limits = torch.finfo(values.dtype)
    top = values.new_full((size,), limits.min)
    top = top.scatter_reduce(0, anchors, values.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, anchors, (values - top[anchors]).exp())
    return top + total.clamp(min=limits.tiny).log()


def _size(indices: Pairs) -> int:
    """Above every index that is looked up."""
    return 1 + max(int(part.max()) for part in indices[:3])


def _of_pairs(costs: Tensor, anchors: Tensor, positives: Tensor) -> dict[str, dict[str, Any]]:
    """What the reducers of pytorch-metric-learning read."""
    return {
        "loss": {"losses": costs, "indices": (anchors, positives), "reduction_type": "pos_pair"}
    }
