"""Margin loss over all triplets of a batch, without listing the triplets."""

from typing import Any

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.reducers import DivisorReducer
from torch import Tensor
from torch.nn.functional import relu

from lookalike.data.mining import Pairs, Triplets
from lookalike.losses.pairs import pair_counts


class MarginLoss(losses.MarginLoss):
    """Margin. Wu et al., ICCV 2017, arXiv:1706.07567.

    Arguments, value and gradient are pytorch-metric-learning's. The cost of a triplet is the sum of
    the costs of its positive and its negative pair. So each pair counts once for every triplet
    that holds it: its anchor's number of pairs of the other kind. Triplets are still listed if a
    miner returns triplets, `triplets_per_anchor` is a number, or the reducer is not the default.
    """

    def initialize_beta(self, beta: float, num_classes: int | None) -> None:
        """Set the boundary between positive and negative distances, one or one for each class."""
        super().initialize_beta(beta, num_classes)
        if not self.learn_beta:  # a buffer moves to the device with the loss
            fixed = self.beta
            del self.beta
            self.register_buffer("beta", fixed, persistent=False)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,), references (R, D) and (R,) -> costs by anchor (B,)."""
        has_triplets = indices_tuple is not None and len(indices_tuple) == 3
        if has_triplets or self.triplets_per_anchor != "all" or not self._divides():
            return super().compute_loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        distances = self.distance(embeddings, ref_emb)  # (B, R)
        pairs: Any = indices_tuple
        positive, negative = _triplets_of_pairs(*pair_counts(pairs, labels, ref_labels, distances))
        triplets = positive.sum(1)  # (B,)
        if not triplets.any():
            return self.zero_losses()
        beta = (self.beta if len(self.beta) == 1 else self.beta[labels])[:, None]  # (1 or B, 1)
        too_far = relu(self.distance.margin(distances, beta) + self.margin)
        too_near = relu(self.distance.margin(beta, distances) + self.margin)
        violating = positive * (too_far > 0) + negative * (too_near > 0)
        every_anchor = {
            "indices": torch.arange(len(labels), device=labels.device),
            "reduction_type": "element",
            "divisor": violating.sum(),
        }
        costs = (positive * too_far + negative * too_near).sum(1)
        return {
            "margin_loss": {"losses": costs, **every_anchor},
            "beta_reg_loss": self._cost_of_beta(beta[:, 0] * triplets, every_anchor),
        }

    def _cost_of_beta(self, by_anchor: Tensor, every_anchor: dict[str, Any]) -> dict[str, Any]:
        if self.learn_beta and len(self.beta) > 1:
            return {"losses": self.nu * by_anchor, **every_anchor}
        return self.compute_reg_loss(self.beta, None, None)

    def _divides(self) -> bool:
        """Whether the reducer is the default: costs divided by the number of violations."""
        reducers = dict(getattr(self.reducer, "reducers", {}))
        return all(type(reducers.get(name)) is DivisorReducer for name in self._sub_loss_names())


def _triplets_of_pairs(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """How often each pair counts -> in how many triplets it is, (B, R) each."""
    return positive * negative.sum(1, keepdim=True), negative * positive.sum(1, keepdim=True)
