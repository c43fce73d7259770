"""Manifold similarity loss for labelled images."""

from typing import Any

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import common_functions
from torch import Tensor

from lookalike.data.mining import Pairs, Triplets


class ManifoldLoss(losses.ManifoldLoss):
    """Manifold similarity to proxies. Aziere & Todorovic, CVPR 2019.

    Differs from pytorch-metric-learning's, which draws a proxy for every image anew in each batch
    unless it is told which: every class has one of the K proxies, dealt out once at random.

    Args:
        num_classes: C.
        options: of pytorch-metric-learning's class: l (the embedding's size), K, lambdaC, alpha,
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
        common_functions.indices_tuple_not_supported(indices_tuple)
        common_functions.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        return super().compute_loss(embeddings, None, self.proxy_of[labels], embeddings, None)
