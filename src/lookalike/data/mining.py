"""Which pairs of a batch count: the null miner, and miners that scale to large batches.

All others are pytorch-metric-learning's. Those here are its classes with another `mine`. It needs
one row of the batch for each positive pair, (P, R), instead of the cube of the batch.
"""

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import miners
from torch import Tensor, nn

Triplets = tuple[Tensor, Tensor, Tensor]  # anchors, positives, negatives
Pairs = tuple[Tensor, Tensor, Tensor, Tensor]  # anchors, positives, anchors, negatives

ENTRIES = 2**24  # of a mask that is held at once; more take more memory and no less time


class AllPairs(nn.Module):
    """The null miner: it chooses nothing, so the loss uses its default, usually every pair."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> None:
        """Embeddings (B, D) float32, labels (B,) int64 -> None, no indices."""
        return


class TripletMarginMiner(miners.TripletMarginMiner):
    """Triplets that violate the margin, all or of one kind. Schroff et al., CVPR 2015."""

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        """Embeddings (B, D), labels (B,), references (R, D) and (R,) -> triplets, (T,) each."""
        distances = self.distance(embeddings, ref_emb)
        distances = -distances if self.distance.is_inverted else distances

        def allowed(anchor: Tensor, positive: Tensor) -> Tensor:
            gap = distances[anchor] - distances[anchor, positive][:, None]  # (P, R)
            return kind_of_triplet(gap, self.margin, self.type_of_triplets)

        return _listed(labels, ref_labels, allowed)


class AngularMiner(miners.AngularMiner):
    """Triplets whose angle at the negative exceeds the given angle.

    Wang et al., ICCV 2017, arXiv:1708.01682. Differs: a positive that equals its anchor is in no
    triplet, since it forms no angle. The distance from the negative n to the centre c of anchor a
    and positive p follows from the three sides (Apollonius):
    |n - c|^2 = (|n - a|^2 + |n - p|^2) / 2 - |a - p|^2 / 4.
    """

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        """Embeddings (B, D), labels (B,), references (R, D) and (R,) -> triplets, (T,) each."""
        exact = "donot_use_mm_for_euclid_dist"  # equal images are at distance 0
        squared = torch.cdist(embeddings, ref_emb, compute_mode=exact).square()  # (B, R)
        among_references = torch.cdist(ref_emb, ref_emb, compute_mode=exact).square()  # (R, R)

        def allowed(anchor: Tensor, positive: Tensor) -> Tensor:
            side = squared[anchor, positive][:, None]  # (P, 1)
            median = (squared[anchor] + among_references[positive]) / 2 - side / 4  # (P, R)
            return side > 4 * math.tan(self.angle) ** 2 * median

        return _listed(labels, ref_labels, allowed)


class BatchHardMiner(miners.BatchHardMiner):
    """The farthest positive and the nearest negative of every anchor.

    Hermans et al., 2017, arXiv:1703.07737.
    """

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        """Embeddings (B, D), labels (B,), references (R, D) and (R,) -> triplets, (T,) each."""
        distances = self.distance(embeddings, ref_emb)
        distances = -distances if self.distance.is_inverted else distances
        is_positive, is_negative = matches(labels, ref_labels)
        positive = distances.masked_fill(~is_positive, -torch.inf).argmax(1)
        negative = distances.masked_fill(~is_negative, torch.inf).argmin(1)
        anchor = (is_positive.any(1) & is_negative.any(1)).nonzero().flatten()
        return anchor, positive[anchor], negative[anchor]


class DistanceWeightedMiner(miners.DistanceWeightedMiner):
    """Negatives drawn uniformly over distances. Wu et al., ICCV 2017, arXiv:1706.07567, section 4.

    Each anchor is in as many triplets as its class has images in the batch; positives are drawn
    uniformly. Differs: weights are scaled by the largest of the anchor, not of the batch. So, in
    many dimensions, the weights of an anchor with only distant negatives do not all underflow.
    """

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        """Embeddings (B, D), labels (B,), references (R, D) and (R,) -> triplets, (T,) each."""
        distances = self.distance(embeddings, ref_emb).clamp(min=self.cutoff)  # (B, R)
        is_positive, is_negative = matches(labels, ref_labels)
        logs = self._log_weights(distances, embeddings.shape[1])
        drawable = is_negative & (distances < self.nonzero_loss_cutoff) & logs.isfinite()
        anchor = (is_positive.any(1) & drawable.any(1)).nonzero().flatten()  # (A,)
        counts = (labels[:, None] == ref_labels).sum(1)[anchor]
        if len(anchor) == 0:
            return anchor, anchor, anchor
        most = int(counts.max())
        weights = logs[anchor].masked_fill(~drawable[anchor], -torch.inf).softmax(1)
        negative = weights.multinomial(most, replacement=True)  # (A, most)
        positive = is_positive[anchor].float().multinomial(most, replacement=True)
        wanted = torch.arange(most, device=labels.device) < counts[:, None]  # (A, most)
        row, draw = wanted.nonzero(as_tuple=True)
        return anchor[row], positive[row, draw], negative[row, draw]

    @staticmethod
    def _log_weights(distances: Tensor, dimensions: int) -> Tensor:
        """Minus the log density of distances of random points on a sphere, up to a constant."""
        near = (2.0 - dimensions) * distances.log()
        return near - (dimensions - 3) / 2 * (1 - distances.square() / 4).log()


class UniformHistogramMiner(miners.UniformHistogramMiner):
    """Pairs drawn uniformly over distances, with replacement inside each bin of a histogram."""

    def filter_by_bin(self, distances: Tensor, bins: Tensor, num_pairs: int) -> Tensor:
        """Draw equally many distances from every bin that is not empty.

        Args:
            distances: (N,).
            bins: edges (E,), ascending; the last bin includes its upper edge.
            num_pairs: how many are drawn from each bin.

        Returns:
            Their positions among the distances, (at most (E - 1) x num_pairs,) int64.
        """
        bin_of = torch.bucketize(distances, bins, right=True).clamp(max=len(bins) - 1)
        in_order = bin_of.argsort()
        counts = bin_of.new_zeros(len(bins)).index_add(0, bin_of, torch.ones_like(bin_of))
        filled = counts.nonzero().flatten()
        first, counts = (counts.cumsum(0) - counts)[filled], counts[filled]
        shares = torch.rand(len(counts), num_pairs, device=distances.device)
        within = (shares * counts[:, None]).long().clamp(max=counts[:, None] - 1)
        return in_order[(first[:, None] + within).flatten()]


def matches(labels: Tensor, reference_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs are positive and which are negative, (B, R) bool each.

    Args:
        labels: (B,).
        reference_labels: (R,); the same tensor as `labels` if a batch is compared with itself: an
            image is then not its own positive.
    """
    same = labels[:, None] == reference_labels
    negative = ~same
    return same.fill_diagonal_(False) if reference_labels is labels else same, negative


def kind_of_triplet(gap: Tensor, margin: float, kind: str) -> Tensor:
    """Which triplets are of a kind, bool of the shape of `gap`.

    Args:
        gap: the distance to the negative minus that to the positive.
        margin: in the unit of the distances.
        kind: "all" that violate the margin; among these "hard" ones, whose negative is not farther
            than the positive, and "semihard" ones, the rest; "easy" ones, which keep the margin.

    >>> kind_of_triplet(torch.tensor([-0.1, 0.1, 0.9]), margin=0.5, kind="semihard").tolist()
    [False, True, False]
    """
    above, up_to = {
        "all": (-torch.inf, margin),
        "hard": (-torch.inf, min(0.0, margin)),
        "semihard": (0.0, margin),
        "easy": (margin, torch.inf),
    }[kind]
    return (gap > above) & (gap <= up_to)


def _listed(
    labels: Tensor, reference_labels: Tensor, allowed: Callable[[Tensor, Tensor], Tensor]
) -> Triplets:
    """All triplets that `allowed` admits: anchors (P,), positives (P,) -> negatives (P, R) bool."""
    is_positive, is_negative = matches(labels, reference_labels)
    anchors, positives = is_positive.nonzero(as_tuple=True)
    rows = max(1, ENTRIES // len(reference_labels))
    parts = []
    for anchor, positive in zip(anchors.split(rows), positives.split(rows), strict=True):
        pair, negative = (is_negative[anchor] & allowed(anchor, positive)).nonzero(as_tuple=True)
        parts.append((anchor[pair], positive[pair], negative))
    anchor, positive, negative = (torch.cat(part) for part in zip(*parts, strict=True))
    return anchor, positive, negative
