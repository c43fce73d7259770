"""A residual adapter: the features plus what is learned on top, which is nothing at first.

Houlsby et al., ICML 2019, arXiv:1902.00751, start adapters near the identity; on the features of a
frozen network: Gao et al., "CLIP-Adapter", IJCV 2024, arXiv:2110.04544. Differs: the last layer
starts at zero, so that the embedding starts exactly as the frozen features.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class ResidualAdapter(nn.Module):
    """Features x -> x + |x| f(x / |x|); f is a linear layer, or two with ReLU between them.

    f sees features of length 1, so that its step does not depend on the backbone's scale.

    Args:
        width: number of features, and of dimensions of the embedding.
        hidden: size of the layer between the two; null for one linear layer.
        dropout: probability that an input of f is set to 0 in training.
    """

    def __init__(self, width: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding_size = width
        self.dropout = nn.Dropout(dropout)
        between = [nn.Linear(width, hidden), nn.ReLU()] if hidden else []
        last = nn.Linear(hidden or width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.learned = nn.Sequential(*between, last)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width) -> embeddings (B, width), not yet normalised."""
        scale = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # (B, 1)
        return features + scale * self.learned(self.dropout(normalize(features)))
