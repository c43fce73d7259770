"""The classifier that some losses train together with the embedding."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.losses.matryoshka import MatryoshkaLoss
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.weighted_sum import WeightedSum

Logits = Callable[[Tensor], Tensor]


def logits_of(loss: nn.Module) -> Logits | None:
    """The function from embeddings (B, D) to logits (B, C); None for a loss without a classifier.

    The softmax of the logits are probabilities. A weighted sum gives its first classifier. Margins
    (ArcFace, CosFace) are used in training only, so these logits are without them.
    """
    if isinstance(loss, MatryoshkaLoss):
        return logits_of(loss.whole)
    if isinstance(loss, WeightedSum):
        return next(filter(None, map(logits_of, loss.losses.values())), None)
    if isinstance(loss, SoftmaxLoss):
        return loss.logits
    # if it was not imported, this loss is none of its classes
    pml: Any = sys.modules.get("pytorch_metric_learning.losses")
    if pml and isinstance(loss, pml.LargeMarginSoftmaxLoss | pml.NormalizedSoftmaxLoss):
        known: Any = loss
        return known.get_logits
    return None


@dataclass(frozen=True)
class EmbeddingClassifier:
    """A trained classifier of embeddings.

    logits: embeddings (B, D) float32 -> logits (B, C).
    class_names: (C,) str, in the order of the logits.
    device: where `logits` computes.
    """

    logits: Logits
    class_names: tuple[str, ...]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Embeddings (N, D) float32 -> logits (N, C) float64."""
        return self.logits(torch.from_numpy(vectors).to(self.device)).double().cpu().numpy()


def classifier_of(loss: nn.Module, class_names: Sequence[str]) -> EmbeddingClassifier | None:
    """The classifier that a loss has trained; None for a loss without one.

    Args:
        loss: a trained loss.
        class_names: (C,), of the training classes in the order of their labels.
    """
    logits = logits_of(loss)
    if logits is None:
        return None
    return EmbeddingClassifier(logits, tuple(class_names), next(loss.parameters()).device)
