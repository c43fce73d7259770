"""Manifold similarity loss for labelled images."""

from typing import Any

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import common_functions
from torch import Tensor

from lookalike.data.mining import Pairs, Triplets


class ManifoldLoss(losses.ManifoldLoss):
    """Manifold similarity to proxies. Aziere & Todorovic, CVPR 2019.

    Differs: every class is assigned one of the K proxies at random, once. pytorch-metric-learning's
    loss draws a new proxy for every image in each batch unless it is given one.

    Args:
        num_classes: C.
        options: of pytorch-metric-learning's class: l (the embedding size), K, lambdaC, alpha,
            margin, distance ...
    """

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.proxy_of: Tensor
        self.register_buffer("proxy_of", torch.randperm(num_classes) % self.K)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Triplets | Pairs | None,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, Any]]:
        """Embeddings (B, D), labels (B,) int64 in 0..C-1 -> scalar."""
        common_functions.indices_tuple_not_supported(indices_tuple)
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        return super().compute_loss(embeddings, None, self.proxy_of[labels], embeddings, None)
