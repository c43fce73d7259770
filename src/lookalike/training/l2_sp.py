"""L2-SP: a penalty on the distance of the weights from where they started.

Li et al., "Explicit inductive bias for transfer learning with convolutional networks", ICML 2018,
arXiv:1802.01483, equation 4: alpha/2 |w - w0|^2 of pretrained weights, beta/2 |w|^2 of new ones.
"""

import torch
from torch import Tensor, nn

from lookalike.models.embedder import Embedder


class L2SP:
    """The penalty; backbone and pooling are the pretrained part, the head is new.

    Args:
        alpha: weight of the pretrained part. The authors' grid is 0.001 to 1.
        beta: weight of the head; the authors fix 0.01.
    """

    def __init__(self, alpha: float = 0.1, beta: float = 0.01) -> None:
        self.alpha = alpha
        self.beta = beta
        self.start: list[Tensor] = []

    def begin(self, embedder: Embedder, device: torch.device) -> None:
        """Remember the weights of the pretrained part."""
        self.start = [each.detach().to(device, copy=True) for each in _pretrained(embedder)]

    def __call__(self, embedder: Embedder, images: Tensor, embeddings: Tensor) -> Tensor:
        """The penalty of the weights as they are now, a scalar; images have no part in it."""
        pairs = zip(_pretrained(embedder), self.start, strict=True)
        moved = [(now - start).square().sum() for now, start in pairs if now.requires_grad]
        new = [each.square().sum() for each in embedder.head.parameters() if each.requires_grad]
        zero = embeddings.new_zeros(())
        return (self.alpha * sum(moved, zero) + self.beta * sum(new, zero)) / 2


def _pretrained(embedder: Embedder) -> list[nn.Parameter]:
    return [*embedder.backbone.parameters(), *embedder.pooling.parameters()]
