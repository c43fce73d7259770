"""The classifier that a loss trains on the way, for the losses that have one."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.weighted_sum import WeightedSum

Logits = Callable[[Tensor], Tensor]


def logits_of(loss: nn.Module) -> Logits | None:
    """embeddings (B, D) -> logits (B, C), whose softmax are probabilities; None where the loss
    has no such classifier.

    Of a weighted sum, its first classifier. Margins (ArcFace, CosFace) are for training alone and
    play no part.
    """
    if isinstance(loss, WeightedSum):
        return next(filter(None, map(logits_of, loss.losses.values())), None)
    if isinstance(loss, SoftmaxLoss):
        return loss.logits
    pml: Any = sys.modules.get("pytorch_metric_learning.losses")  # not imported: not one of its
    if pml and isinstance(loss, pml.LargeMarginSoftmaxLoss | pml.NormalizedSoftmaxLoss):
        known: Any = loss
        return known.get_logits
    return None


@dataclass(frozen=True)
class EmbeddingClassifier:
    """Names the class of embeddings.

    Args:
        logits: embeddings (B, D) -> (B, C).
        class_names: (C,), in the order of the logits.
        device: where `logits` computes.
    """

    logits: Logits
    class_names: tuple[str, ...]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Embeddings (N, D) -> logits (N, C)."""
        return self.logits(torch.from_numpy(vectors).to(self.device)).double().cpu().numpy()


def classifier_of(loss: nn.Module, class_names: Sequence[str]) -> EmbeddingClassifier | None:
    """The classifier that a loss has trained, with the names of its classes; None without one."""
    logits = logits_of(loss)
    if logits is None:
        return None
    return EmbeddingClassifier(logits, tuple(class_names), next(loss.parameters()).device)
