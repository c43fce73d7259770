"""Losses of smoothed ranks: Smooth-AP and PNP.

pytorch-metric-learning compares every image with every other beside every query, (B, B, B): 0.5 GB
for 512 images, several times over. Only the query's own class needs a rank, a row of the batch
for each pair of one class, (P, B).
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

    Arguments are pytorch-metric-learning's, and so are value and gradient where a batch has as
    many classes as images a class, class after class. Differs: any batch will do. With K images a
    class, theirs takes K for the number of classes, and so groups images of several classes.
    """

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        queries, items = of_one_class(labels)
        ahead = ahead_of(self.distance(embeddings), queries, items, self.temperature)  # (P, B)
        of_query = labels[queries][:, None] == labels  # (P, B)
        precisions = (0.5 + (ahead * of_query).sum(1)) / (0.5 + ahead.sum(1))  # its own half is in
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
    """Penalising negatives before positives. Li et al., AAAI 2022, arXiv:2102.04640.

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
        common_functions.indices_tuple_not_supported(indices_tuple)
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        queries, items = of_one_class(labels)
        ahead = ahead_of(self.distance(embeddings), queries, items, self.anneal)  # (P, B)
        negatives = (ahead * (labels[queries][:, None] != labels)).sum(1)  # (P,)
        penalties = mean_by_query(self._penalties(negatives), queries, len(labels))
        has_positives = queries.bincount() > 1  # beside itself
        if not has_positives.any():
            return self.zero_losses()
        return {
            "loss": {
                "losses": penalties[has_positives].mean(),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }

    def _penalties(self, negatives: Tensor) -> Tensor:
        """Smoothed numbers of negatives before a positive -> costs of the same shape."""
        if self.variant == "Ds":
            return negatives.log1p()
        if self.variant == "Dq":
            return 1 - (1 + negatives) ** -self.alpha
        if self.variant == "Iu":
            return (1 + negatives) * negatives.log1p()
        if self.variant == "Ib":
            return negatives / self.b - (self.b * negatives).log1p() / self.b**2
        return negatives


def of_one_class(labels: Tensor) -> tuple[Tensor, Tensor]:
    """labels (B,) -> queries (P,) and items (P,), each image with itself and all of its class."""
    queries, items = (labels[:, None] == labels).nonzero(as_tuple=True)
    return queries, items


def ahead_of(similarities: Tensor, queries: Tensor, items: Tensor, temperature: float) -> Tensor:
    """(B, B), (P,), (P,) -> (P, B) in 0..1: how much each image comes before the item in the
    query's ranking; 0.5 for the item itself."""
    gaps = similarities[queries] - similarities[queries, items][:, None]
    return torch.sigmoid(gaps / temperature)


def mean_by_query(values: Tensor, queries: Tensor, size: int) -> Tensor:
    """values (P,), queries (P,) in 0..size-1 -> (size,)."""
    sums = values.new_zeros(size).index_add(0, queries, values)
    return sums / queries.bincount(minlength=size)
