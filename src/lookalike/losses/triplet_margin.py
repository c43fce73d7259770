"""Triplet margin loss over all triplets of a batch, without listing the triplets."""

from typing import Any

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.reducers import AvgNonZeroReducer
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets
from torch import Tensor
from torch.nn.functional import pad

from lookalike.data.mining import Pairs, Triplets, kind_of_triplet
from lookalike.errors import InputError
from lookalike.losses.pairs import pair_counts


class TripletMarginLoss(losses.TripletMarginLoss):
    """Triplet margin. Schroff et al., CVPR 2015, arXiv:1503.03832.

    Arguments, value and gradient are pytorch-metric-learning's. The number of triplets grows with
    the cube of the batch. But the cost of a violating triplet is linear in its two distances, so
    their sum follows from the number of violating triplets that hold each pair. Triplets are still
    listed if they are needed one by one: a miner returns triplets, `swap`, `smooth_loss`, a number
    of `triplets_per_anchor`, or a reducer other than the mean over violating triplets.

    Args:
        type_of_triplets: which of the miner's triplets count: "all"; "semihard", whose negative is
            farther than the positive by less than the margin; "hard", whose negative is not
            farther than the positive.
        options: of pytorch-metric-learning's class: margin, swap, distance, reducer ...

    Raises:
        InputError: there is no such type of triplets.
    """

    def __init__(self, type_of_triplets: str = "all", **options: Any) -> None:
        super().__init__(**options)
        if type_of_triplets not in ("all", "semihard", "hard"):
            raise InputError(
                f"there are no {type_of_triplets!r} triplets. Set loss.type_of_triplets=all, "
                "semihard or hard."
            )
        self.type_of_triplets = type_of_triplets
        self.one_by_one = self.swap or self.smooth_loss or self.triplets_per_anchor != "all"

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,), references (R, D) and (R,) -> the mean, a scalar."""
        if indices_tuple is not None and len(indices_tuple) == 3:
            kept = self._of_type(embeddings, ref_emb, indices_tuple)
            return super().compute_loss(embeddings, labels, kept, ref_emb, ref_labels)
        if self.one_by_one or not self._averages_violations():
            per_anchor: Any = self.triplets_per_anchor  # a number or "all"
            triplets: Any = convert_to_triplets(indices_tuple, labels, ref_labels, per_anchor)
            return self.compute_loss(embeddings, labels, triplets, ref_emb, ref_labels)
        distances = self._distances(embeddings, ref_emb)  # (B, R)
        positive, negative = pair_counts(indices_tuple, labels, ref_labels, distances)
        weights, violating = violating_triplets(
            distances.detach(), positive, negative, self.margin, self.type_of_triplets
        )
        total = (weights * distances).sum() + self.margin * violating
        return {
            "loss": {
                "losses": total / violating.clamp(min=1),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }

    def _averages_violations(self) -> bool:
        """Whether the reducer is the default: the mean over violating triplets."""
        # with a regulariser, every term has its own reducer
        reducers = getattr(self.reducer, "reducers", {"loss": self.reducer})
        return type(reducers["loss"]) is AvgNonZeroReducer

    def _distances(self, embeddings: Tensor, reference: Tensor) -> Tensor:
        """(B, R), smaller for more similar images."""
        matrix = self.distance(embeddings, reference)
        return -matrix if self.distance.is_inverted else matrix

    @torch.no_grad()
    def _of_type(self, embeddings: Tensor, reference: Tensor, triplets: Triplets) -> Triplets:
        if self.type_of_triplets == "all":
            return triplets
        anchor, positive, negative = triplets
        distances = self._distances(embeddings, reference)
        gap = distances[anchor, negative] - distances[anchor, positive]
        kept = kind_of_triplet(gap, self.margin, self.type_of_triplets)
        return anchor[kept], positive[kept], negative[kept]


@torch.no_grad()
def violating_triplets(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, type_of_triplets: str
) -> tuple[Tensor, Tensor]:
    """How many violating triplets hold each pair, and how many there are in all.

    Sort an anchor's positives by distance. A negative then violates the margin with a run of them,
    which starts at the first positive that is not closer than the negative by the margin. A
    histogram of where runs start and end, summed up, counts the violations of each positive. This
    takes O(B R log P) time and O(B R) memory.

    Args:
        distances: (B, R), smaller for more similar images.
        positive: (B, R), how often each pair counts as a positive one; 0 for never.
        negative: (B, R), how often each pair counts as a negative one; 0 for never.
        margin: in the unit of the distances.
        type_of_triplets: "all", "semihard" or "hard".

    Returns:
        weights (B, R), the number of violating triplets, with a minus sign for negative pairs; and
        their total, a scalar. The sum of the costs of all triplets is
        `(weights * distances).sum() + margin * total`.
    """
    most = int((positive > 0).sum(1).max())  # P, positives of an anchor
    near, column = distances.masked_fill(positive == 0, torch.inf).topk(most, largest=False)
    times = positive.gather(1, column)  # (B, P), 0 where an anchor has fewer
    start = torch.searchsorted(near + margin, distances, right=True)  # (B, R), 0..P
    end = torch.full_like(start, most)
    if type_of_triplets != "all":
        closer = torch.searchsorted(near, distances).maximum(start)  # first not closer than it
        start, end = (start, closer) if type_of_triplets == "semihard" else (closer, end)
    before = pad(times.cumsum(1), (1, 0))  # (B, P + 1)
    of_negatives = negative * (before.gather(1, end) - before.gather(1, start))
    runs = torch.zeros_like(before).scatter_add_(1, start, negative)
    runs.scatter_add_(1, end, -negative)
    of_positives = times * runs.cumsum(1)[:, :most]
    return (-of_negatives).scatter_add_(1, column, of_positives), of_negatives.sum()
