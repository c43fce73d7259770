"""A residual adapter: the features plus what is learned on top, which is nothing at first.

Houlsby et al., ICML 2019, arXiv:1902.00751, start adapters near the identity; on the features of a
frozen network: Gao et al., "CLIP-Adapter", IJCV 2024, arXiv:2110.04544. Differs: the last layer
starts at zero, so that the embedding starts exactly as the frozen features.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.errors import InputError
from lookalike.models.heads import principal_directions


class ResidualAdapter(nn.Module):
    """Features x -> x + |x| f(x / |x|); f is a linear layer, or two with ReLU between them.

    f sees features of length 1, so that its step does not depend on the backbone's scale.

    Args:
        width: number of features, and of dimensions of the embedding.
        hidden: size of the layer between the two; null for one linear layer.
        dropout: probability that an input of f is set to 0 in training.
        whitening: above 0, training begins from whitened features instead: f is fitted to the
            training images so that each principal component is divided by this power of its
            standard deviation, as in `PrincipalComponents`, but not rotated.

    Raises:
        InputError: two layers can't whiten.
    """

    def __init__(
        self,
        width: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        whitening: float = 0.0,
    ) -> None:
        super().__init__()
        if whitening and hidden:
            raise InputError("head.whitening needs one linear layer: set head.hidden=null, or 0.")
        self.embedding_size = width
        self.whitening = whitening
        self.dropout = nn.Dropout(dropout)
        between = [nn.Linear(width, hidden), nn.ReLU()] if hidden else []
        self.last = nn.Linear(hidden or width, width)
        self.learned = nn.Sequential(*between, self.last)
        self.add_nothing()

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width) -> embeddings (B, width), not yet normalised."""
        scale = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # (B, 1)
        return features + scale * self.learned(self.dropout(normalize(features)))

    @torch.no_grad()
    def add_nothing(self) -> None:
        """Set the last layer to zero: the embedding is the features."""
        self.last.weight.zero_()
        self.last.bias.zero_()

    @torch.no_grad()
    def start(self, features: Tensor) -> None:
        """Fit f to training features (N, width) float32, if it is to whiten."""
        if not self.whitening:
            return
        unit = normalize(features)
        directions, scale = principal_directions(unit, self.embedding_size, self.whitening)
        whitened = (directions.T * scale) @ directions  # (width, width), rotated back
        self.last.weight.copy_(whitened - torch.eye(len(whitened)))
        self.last.bias.copy_(-whitened @ unit.mean(0))
