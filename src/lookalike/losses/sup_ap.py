"""SupAP, an upper bound of one minus average precision. Ramzi et al., NeurIPS 2021."""

import torch
from pytorch_metric_learning.utils.common_functions import indices_tuple_not_supported
from torch import Tensor, nn
from torch.nn.functional import relu

from lookalike.data.mining import matches
from lookalike.losses.blocks import in_blocks


class SupAPLoss(nn.Module):
    """One minus average precision, whose negatives count by an upper bound of the step function.

    arXiv:2110.01445, section 3.1. The precision at a positive is r+ / (r+ + r-): r+ is its
    rank among the positives, by the step function and so without a gradient; r- the number of
    negatives before it, by `upper_step`. A negative that is far ahead still has a gradient, which
    a sigmoid has not.

    Differs: a query is no item of its own ranking; equal similarities count against it; and
    `upper_step` is continuous at the margin, while the authors' code continues with another line.

    Args:
        temperature: of the sigmoid.
        slope: of the straight line behind the margin.
        margin: the difference of similarities from which on it is a line.
    """

    def __init__(
        self, temperature: float = 0.01, slope: float = 100.0, margin: float = 0.05
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.slope = slope
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 -> scalar in [0, 1]; 0 without a positive pair."""
        indices_tuple_not_supported(indices)
        similarities = embeddings @ embeddings.T
        positive, negative = matches(labels, labels)
        queries, items = positive.nonzero(as_tuple=True)  # (P,)

        def imprecisions(queries: Tensor, items: Tensor) -> Tensor:
            gaps = similarities[queries] - similarities[queries, items][:, None]  # (P, B)
            among_positives = 1 + ((gaps > 0) & positive[queries]).sum(1)
            before = (self.upper_step(gaps) * negative[queries]).sum(1)
            return before / (among_positives + before)

        missing = in_blocks(imprecisions, queries, items, columns=len(labels))
        counts = positive.sum(1)
        sums = missing.new_zeros(len(labels)).index_add(0, queries, missing)
        return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)

    def upper_step(self, gaps: Tensor) -> Tensor:
        """At least 1 where a gap is not negative, above 0 elsewhere; of any shape."""
        smooth = torch.sigmoid(gaps.clamp(max=self.margin) / self.temperature)
        return smooth + 0.5 * (gaps >= 0) + self.slope * relu(gaps - self.margin)
