"""Which pairs count, as matrices."""

import torch
from torch import Tensor

from lookalike.data.mining import Pairs, matches


def times_counted(
    pairs: Pairs | None, labels: Tensor, reference_labels: Tensor, like: Tensor
) -> tuple[Tensor, Tensor]:
    """How often each pair counts, as positive and as negative: (B, R), of the dtype of `like`.

    Args:
        pairs: a miner's (anchors, positives, anchors, negatives), which may name one twice; null
            for every pair.
        labels: (B,).
        reference_labels: (R,); the same tensor as `labels` where a batch is compared with itself.
    """
    if pairs is None:
        positive, negative = matches(labels, reference_labels)
        return positive.to(like.dtype), negative.to(like.dtype)
    first, positives, second, negatives = pairs
    return _times(first, positives, like), _times(second, negatives, like)


def _times(anchors: Tensor, others: Tensor, like: Tensor) -> Tensor:
    once = torch.ones(len(anchors), dtype=like.dtype, device=like.device)
    return torch.zeros_like(like).index_put_((anchors, others), once, accumulate=True)
