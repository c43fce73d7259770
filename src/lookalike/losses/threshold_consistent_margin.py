"""Threshold-consistent margin loss, without a copy of both embeddings of every pair."""

from typing import Any

from pytorch_metric_learning import losses
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor
from torch.nn.functional import relu

from lookalike.data.mining import Pairs, Triplets
from lookalike.losses.pairs import times_counted


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
        similarities = self.distance(embeddings)
        pairs: Any = None if indices_tuple is None else convert_to_pairs(indices_tuple, labels)
        positive, negative = times_counted(pairs, labels, labels, similarities)
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
    """The mean over pairs on the wrong side of their threshold; 0 without any."""
    return (times * relu(excess)).sum() / (times * (excess >= 0)).sum().clamp(min=1)
