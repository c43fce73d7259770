"""Which pairs of a batch count: the null miner, and miners that scale to large batches.

All others are pytorch-metric-learning's. Those here are its own classes with another `mine`: a
row of the batch for each positive pair, (P, R), instead of the cube of the batch.
"""

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import miners
from torch import Tensor, nn

Triplets = tuple[Tensor, Tensor, Tensor]  # anchors, positives, negatives
Pairs = tuple[Tensor, Tensor, Tensor, Tensor]  # anchors, positives, anchors, negatives

ENTRIES = 2**24  # of a mask at a time; more take memory and no less time


class AllPairs(nn.Module):
    """The null miner: leaves the choice to the loss, which by default takes every pair."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> None:
        """embeddings (B, D) float32, labels (B,) int64 -> no indices."""
        return


class TripletMarginMiner(miners.TripletMarginMiner):
    """Triplets that violate the margin, all or of one kind. Schroff et al., CVPR 2015."""

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        distances = self.distance(embeddings, ref_emb)
        distances = -distances if self.distance.is_inverted else distances

        def allowed(anchor: Tensor, positive: Tensor) -> Tensor:
            gap = distances[anchor] - distances[anchor, positive][:, None]  # (P, R)
            return kind_of_triplet(gap, self.margin, self.type_of_triplets)

        return _listed(labels, ref_labels, allowed)


class AngularMiner(miners.AngularMiner):
    """Triplets whose angle at the negative exceeds the given one. Wang et al., ICCV 2017,
    arXiv:1708.01682.

    Differs: a positive that equals its anchor makes no angle, whatever the negative.
    The distance of a negative n from the centre of anchor a and positive p comes of the three
    sides (Apollonius): |n - c|^2 = (|n - a|^2 + |n - p|^2) / 2 - |a - p|^2 / 4.
    """

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        exact = "donot_use_mm_for_euclid_dist"  # equal images are at distance 0
        squared = torch.cdist(embeddings, ref_emb, compute_mode=exact).square()  # (B, R)
        among_references = torch.cdist(ref_emb, ref_emb, compute_mode=exact).square()  # (R, R)

        def allowed(anchor: Tensor, positive: Tensor) -> Tensor:
            side = squared[anchor, positive][:, None]  # (P, 1)
            median = (squared[anchor] + among_references[positive]) / 2 - side / 4  # (P, R)
            return side > 4 * math.tan(self.angle) ** 2 * median

        return _listed(labels, ref_labels, allowed)


class BatchHardMiner(miners.BatchHardMiner):
    """The farthest positive and nearest negative of every anchor. Hermans et al., 2017,
    arXiv:1703.07737."""

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        distances = self.distance(embeddings, ref_emb)
        distances = -distances if self.distance.is_inverted else distances
        is_positive, is_negative = matches(labels, ref_labels)
        positive = distances.masked_fill(~is_positive, -torch.inf).argmax(1)
        negative = distances.masked_fill(~is_negative, torch.inf).argmin(1)
        anchor = (is_positive.any(1) & is_negative.any(1)).nonzero().flatten()
        return anchor, positive[anchor], negative[anchor]


class DistanceWeightedMiner(miners.DistanceWeightedMiner):
    """Negatives drawn evenly over distances. Wu et al., ICCV 2017, arXiv:1706.07567, section 4.

    As many triplets an anchor as its class has images in the batch; positives are drawn evenly.
    Differs: weights are scaled by the anchor's greatest, not the batch's, so that in many
    dimensions an anchor with only distant negatives does not lose them all to underflow.
    """

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
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
        return anchor.repeat_interleave(counts), positive[wanted], negative[wanted]

    @staticmethod
    def _log_weights(distances: Tensor, dimensions: int) -> Tensor:
        """One over the density of distances between random points of a sphere, up to a factor."""
        near = (2.0 - dimensions) * distances.log()
        return near - (dimensions - 3) / 2 * (1 - distances.square() / 4).log()


class UniformHistogramMiner(miners.UniformHistogramMiner):
    """Pairs drawn evenly over distances, with replacement inside each bin of a histogram."""

    def filter_by_bin(self, distances: Tensor, bins: Tensor, num_pairs: int) -> Tensor:
        """distances (N,), edges of the bins -> (drawn,) positions, as many of every bin that has
        any; the last bin includes its upper edge."""
        bin_of = torch.bucketize(distances, bins, right=True).clamp(max=len(bins) - 1)
        in_order = bin_of.argsort()
        counts = bin_of.bincount()
        first, counts = (counts.cumsum(0) - counts)[counts > 0], counts[counts > 0]
        shares = torch.rand(len(counts), num_pairs, device=distances.device)
        within = (shares * counts[:, None]).long().clamp(max=counts[:, None] - 1)
        return in_order[(first[:, None] + within).flatten()]


def matches(labels: Tensor, reference_labels: Tensor) -> tuple[Tensor, Tensor]:
    """labels (B,), (R,) -> which are positives and which negatives, (B, R) bool.

    An image is not its own positive, where a batch is compared with itself: the same tensor.
    """
    same = labels[:, None] == reference_labels
    negative = ~same
    return same.fill_diagonal_(False) if reference_labels is labels else same, negative


def kind_of_triplet(gap: Tensor, margin: float, kind: str) -> Tensor:
    """Whether triplets are of a kind, by how much farther the negative is than the positive.

    "all" violate the margin, "hard" ones have the negative no farther than the positive,
    "semihard" ones are the others among them; "easy" ones keep the margin.
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
    """The triplets that are allowed: anchors (P,), positives (P,) -> negatives (P, R) bool."""
    is_positive, is_negative = matches(labels, reference_labels)
    anchors, positives = is_positive.nonzero(as_tuple=True)
    rows = max(1, ENTRIES // len(reference_labels))
    parts = []
    for anchor, positive in zip(anchors.split(rows), positives.split(rows), strict=True):
        pair, negative = (is_negative[anchor] & allowed(anchor, positive)).nonzero(as_tuple=True)
        parts.append((anchor[pair], positive[pair], negative))
    anchor, positive, negative = (torch.cat(part) for part in zip(*parts, strict=True))
    return anchor, positive, negative
