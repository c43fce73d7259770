"""How often each pair of a batch counts, as matrices."""

import torch
from torch import Tensor

from lookalike.data.mining import Pairs, matches


def pair_counts(
    pairs: Pairs | None, labels: Tensor, reference_labels: Tensor, like: Tensor
) -> tuple[Tensor, Tensor]:
    """How often each pair counts as a positive and as a negative one, (B, R) each, 0 for never.

    Args:
        pairs: a miner's (anchors, positives, anchors, negatives), which may hold a pair several
            times; None for every pair.
        labels: (B,).
        reference_labels: (R,); the same tensor as `labels` if a batch is compared with itself.
        like: (B, R); the result has its dtype and device.

    >>> labels = torch.tensor([0, 0, 1])
    >>> pair_counts(None, labels, labels, like=torch.zeros(3, 3))[0].tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if pairs is None:
        positive, negative = matches(labels, reference_labels)
        return positive.to(like.dtype), negative.to(like.dtype)
    first, positives, second, negatives = pairs
    return _times(first, positives, like), _times(second, negatives, like)


def _times(anchors: Tensor, others: Tensor, like: Tensor) -> Tensor:
    once = torch.ones(len(anchors), dtype=like.dtype, device=like.device)
    return torch.zeros_like(like).index_put_((anchors, others), once, accumulate=True)
