"""Threshold-consistent margin loss, without copying the embeddings of every pair."""

from typing import Any

from pytorch_metric_learning import losses
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor
from torch.nn.functional import relu

from lookalike.data.mining import Pairs, Triplets
from lookalike.losses.pairs import pair_counts


class ThresholdConsistentMarginLoss(losses.ThresholdConsistentMarginLoss):
    """Threshold-consistent margin. Zhang et al., ICLR 2024, arXiv:2307.04047.

    Arguments, value and gradient are pytorch-metric-learning's.
    """

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,) int64 -> scalar, 0 without a pair beyond its threshold."""
        similarities = self.distance(embeddings)
        pairs: Any = None if indices_tuple is None else convert_to_pairs(indices_tuple, labels)
        positive, negative = pair_counts(pairs, labels, labels, similarities)
        below = _mean_excess(self.margin_plus - similarities, positive)
        above = _mean_excess(similarities - self.margin_minus, negative)
        return {
            "loss": {
                "losses": self.lambda_plus * below + self.lambda_minus * above,
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }


def _mean_excess(excess: Tensor, times: Tensor) -> Tensor:
    """The mean excess (B, B) of the pairs beyond their threshold, each counted `times` (B, B)."""
    return (times * relu(excess)).sum() / (times * (excess >= 0)).sum().clamp(min=1)
