"""What a loss makes of mined pairs, where that is not what one expects."""

import sys
from typing import Any

from torch import nn

from lookalike.data.mining import AllPairs
from lookalike.losses.centroid_triplet import CentroidTripletLoss
from lookalike.losses.softmax import SoftmaxLoss

# they multiply the loss of an image by the share of mined pairs that it is in; named, not imported
WEIGHING = (
    "LargeMarginSoftmaxLoss", "NormalizedSoftmaxLoss", "ProxyAnchorLoss", "SoftTripleLoss",
    "NCALoss", "FastAPLoss",
)  # fmt: skip


def remark_on_miner(loss: nn.Module, miner: nn.Module) -> str | None:
    """A remark if the loss does something else with mined pairs than to sum over them.

    Args:
        loss: or a sum of losses.
        miner: whose pairs it gets.

    >>> remark_on_miner(SoftmaxLoss(2, 2), AllPairs())
    """
    if isinstance(miner, AllPairs):
        return None
    name, kind = type(loss).__name__, type(miner).__name__
    weighing = _weighing()
    if any(isinstance(part, weighing) for part in loss.modules()):
        return (
            f"{name} has no pairs: it turns those of {kind} into weights of the images, and an "
            "image in no mined pair trains nothing. Set miner=none for the loss of the paper."
        )
    if isinstance(loss, SoftmaxLoss | CentroidTripletLoss):
        return f"{name} takes every image, so {kind} does nothing. Set miner=none."
    return None


def _weighing() -> tuple[type, ...]:
    # if it was not imported, no loss is one of its classes
    pml: Any = sys.modules.get("pytorch_metric_learning.losses")
    return tuple(getattr(pml, name) for name in WEIGHING) if pml else ()
