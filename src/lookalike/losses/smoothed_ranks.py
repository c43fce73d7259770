"""Losses on smoothed ranks: Smooth-AP and PNP.

pytorch-metric-learning compares every two images for every query, (B, B, B): several matrices of
0.5 GB for 512 images. But only images of the query's own class need a rank: one row of the batch
for each pair of one class is enough, (P, B).
"""

from typing import Any

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import common_functions
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_weights
from torch import Tensor

from lookalike.data.mining import Pairs, Triplets


class SmoothAPLoss(losses.SmoothAPLoss):
    """Smooth-AP. Brown et al., ECCV 2020, arXiv:2007.12163.

    Arguments are pytorch-metric-learning's, and so are value and gradient for a batch that is
    sorted by class and has as many classes as images a class. Differs: any other batch works too;
    there, images of several classes are then taken for one class.
    """

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,) int64 -> costs of the queries (B,), in [0, 1]."""
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        queries, items = same_class_pairs(labels)
        ahead = ahead_of(self.distance(embeddings), queries, items, self.temperature)  # (P, B)
        of_query = labels[queries][:, None] == labels  # (P, B)
        # the sums hold 0.5 for the item itself, which counts as 1
        precisions = (0.5 + (ahead * of_query).sum(1)) / (0.5 + ahead.sum(1))
        average = mean_by_query(precisions, queries, len(labels))
        weights = convert_to_weights(indices_tuple, labels, dtype=average.dtype)
        return {
            "loss": {
                "losses": (1 - average) * weights,
                "indices": common_functions.torch_arange_from_size(embeddings),
                "reduction_type": "element",
            }
        }


class PNPLoss(losses.PNPLoss):
    """Penalises negatives that rank before positives. Li et al., AAAI 2022, arXiv:2102.04640.

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
        """Embeddings (B, D), labels (B,) int64 -> scalar, 0 without a positive pair."""
        common_functions.indices_tuple_not_supported(indices_tuple)
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        queries, items = same_class_pairs(labels)
        ahead = ahead_of(self.distance(embeddings), queries, items, self.anneal)  # (P, B)
        negatives = (ahead * (labels[queries][:, None] != labels)).sum(1)  # (P,)
        penalties = mean_by_query(self._penalties(negatives), queries, len(labels))
        has_positives = images_by_query(queries, len(labels)) > 1  # others than itself
        total = (penalties * has_positives).sum()
        return {
            "loss": {
                "losses": total / has_positives.sum().clamp(min=1),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }

    def _penalties(self, negatives: Tensor) -> Tensor:
        """Smoothed numbers of negatives before each positive (P,) -> costs (P,)."""
        if self.variant == "Ds":
            return negatives.log1p()
        if self.variant == "Dq":
            return 1 - (1 + negatives) ** -self.alpha
        if self.variant == "Iu":
            return (1 + negatives) * negatives.log1p()
        if self.variant == "Ib":
            return negatives / self.b - (self.b * negatives).log1p() / self.b**2
        return negatives


def same_class_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of one class, an image with itself included: labels (B,) -> queries, items (P,)."""
    queries, items = (labels[:, None] == labels).nonzero(as_tuple=True)
    return queries, items


def ahead_of(similarities: Tensor, queries: Tensor, items: Tensor, temperature: float) -> Tensor:
    """How much each image ranks before an item, in [0, 1]; 0.5 for the item itself, (P, B).

    Args:
        similarities: (B, B).
        queries: (P,), whose rankings are meant.
        items: (P,), one in each ranking.
        temperature: small values approach a step from 0 to 1.
    """
    gaps = similarities[queries] - similarities[queries, items][:, None]
    return torch.sigmoid(gaps / temperature)


def mean_by_query(values: Tensor, queries: Tensor, size: int) -> Tensor:
    """The mean of each query's values: values (P,), queries (P,) in 0..size-1 -> (size,)."""
    sums = values.new_zeros(size).index_add(0, queries, values)
    return sums / images_by_query(queries, size)


def images_by_query(queries: Tensor, size: int) -> Tensor:
    """How many images each query's class has: queries (P,) in 0..size-1 -> (size,) int64.

    `bincount` does the same, but a GPU then waits to learn the largest number.
    """
    return queries.new_zeros(size).index_add(0, queries, torch.ones_like(queries))
