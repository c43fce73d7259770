"""Losses on soft histograms of all pairs or triplets of a batch, without listing the pairs."""

from typing import Any

from pytorch_metric_learning import losses
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.utils import common_functions
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs, convert_to_triplets
from torch import Tensor

from lookalike.data.mining import Pairs, Triplets, matches
from lookalike.losses.pairs import pair_counts


class HistogramLoss(losses.HistogramLoss):
    """The probability that a negative pair is more similar than a positive pair.

    Ustinova & Lempitsky, NeurIPS 2016, arXiv:1611.00822. Arguments, value and gradient are
    pytorch-metric-learning's. Differs: a similarity of 1, as of equal images, falls into the last
    bin; there it raises an error.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        common_functions.assert_distance_type(self, DotProductSimilarity)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,) int64 -> scalar, 0 without a triplet."""
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        similarities = self.distance(embeddings)
        pairs: Any = None if indices_tuple is None else convert_to_pairs(indices_tuple, labels)
        positive, negative = (
            times > 0 for times in pair_counts(pairs, labels, ref_labels, similarities)
        )
        in_triplets = (positive.any(1) & negative.any(1))[:, None]
        of_positives = self._density(similarities, positive & in_triplets)
        of_negatives = self._density(similarities, negative & in_triplets)
        return {
            "loss": {
                "losses": (of_negatives * of_positives.cumsum(0)).sum(),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }

    def _density(self, similarities: Tensor, counted: Tensor) -> Tensor:
        """The normalised histogram of the counted pairs, (B, B), (B, B) bool -> (bins + 1,).

        A pair counts once, whichever of its images is the anchor.
        """
        values = similarities[(counted | counted.T).triu()]
        nodes = round(2 / self.delta) + 1
        place = ((values + 1) / self.delta).clamp(0, nodes - 1)  # rounding may exceed 1
        return soft_histogram(place, nodes) / max(1, len(values))


class DynamicSoftMarginLoss(losses.DynamicSoftMarginLoss):
    """Gaps of triplets, each weighted by the share of smaller gaps.

    Zhang & Rusinkiewicz, ICCV 2019. Arguments are pytorch-metric-learning's, and so are value and
    gradient of the first batch. Differs: the running histogram of earlier batches is detached from
    their graphs; there, the second backward pass fails. Gaps above the last node are counted at
    the last node.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        empty = self.hist_
        del self.hist_
        self.register_buffer("hist_", empty)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,) int64 -> scalar, 0 without a triplet."""
        gaps = self._gaps(self.distance(embeddings, ref_emb), labels, indices_tuple, ref_labels)
        if len(gaps) == 0:
            return self.zero_losses()
        place = ((gaps - self.min_val) / self.delta).clamp(0, self.num_bins - 1)
        kept = (1 - self.momentum) * self.hist_.any()
        histogram = kept * self.hist_ + (1 - kept) * soft_histogram(place, self.num_bins)
        histogram = histogram / histogram.sum()
        self.hist_ = histogram.detach()
        smaller = histogram.cumsum(0)[place.detach().floor().long()]
        return {
            "loss": {
                "losses": (smaller * gaps).mean(),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }

    @staticmethod
    def _gaps(
        distances: Tensor, labels: Tensor, mined: Triplets | Pairs | None, ref_labels: Tensor
    ) -> Tensor:
        """The distance to the positive minus that to the negative, of every triplet, (T,)."""
        if mined is not None:
            every: Any = "all"
            anchor, positive, negative = convert_to_triplets(mined, labels, ref_labels, every)
            return distances[anchor, positive] - distances[anchor, negative]
        is_positive, is_negative = matches(labels, ref_labels)
        anchor, positive = is_positive.nonzero(as_tuple=True)
        rows = distances[anchor, positive][:, None] - distances[anchor]  # (P, R)
        return rows[is_negative[anchor]]


def soft_histogram(place: Tensor, nodes: int) -> Tensor:
    """The histogram of values, each shared linearly between its two nearest nodes.

    Args:
        place: (N,), values in 0..nodes-1, in units of the distance between nodes.
        nodes: their number.

    Returns:
        (nodes,), which sum to N.

    >>> import torch
    >>> soft_histogram(torch.tensor([0.25]), nodes=2)
    tensor([0.7500, 0.2500])
    """
    below = place.detach().floor().clamp(max=nodes - 2)
    share = place - below
    below = below.long()
    counts = place.new_zeros(nodes)
    return counts.index_add(0, below, 1 - share).index_add(0, below + 1, share)
