"""A residual adapter: the features plus what is learned on top, which is nothing at first.

Houlsby et al., ICML 2019, arXiv:1902.00751, start adapters near the identity; on the features of a
frozen network: Gao et al., "CLIP-Adapter", IJCV 2024, arXiv:2110.04544. Differs: the last layer
starts at zero, so that the embedding starts exactly as the frozen features.

Whitening within classes: Mikolajczyk & Matas, ICCV 2007; for retrieval Radenovic et al., TPAMI
2019, arXiv:1711.02512, section 4.3. Differs: the covariance is shrunk, and nothing is rotated.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.errors import InputError


class ResidualAdapter(nn.Module):
    """Features x -> x + |x| f(x / |x|); f is a linear layer, or two with ReLU between them.

    f sees features of length 1, so that its step does not depend on the backbone's scale.

    Args:
        width: number of features, and of dimensions of the embedding.
        hidden: size of the layer between the two; null for one linear layer.
        dropout: probability that an input of f is set to 0 in training.
        whitening: whether training begins from whitened features instead: directions in which
            images of one class differ count less.
        shrinkage: what is added to the variance of every direction before that, in multiples of
            the mean variance; the more, the nearer to the features.

    Raises:
        InputError: two layers can't whiten.
    """

    def __init__(
        self,
        width: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        whitening: bool = False,
        shrinkage: float = 3.0,
    ) -> None:
        super().__init__()
        if whitening and hidden:
            raise InputError("head.whitening needs one linear layer: set head.hidden=null.")
        self.embedding_size = width
        self.whitening = whitening
        self.shrinkage = shrinkage
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
    def start(self, features: Tensor, labels: Tensor) -> None:
        """Fit f to training features (N, width) float32 of classes (N,) int64, if it is to whiten.

        With M the whitening and m the mean direction, the embedding becomes |x| M (x / |x| - m).
        """
        if not self.whitening:
            return
        unit = normalize(features).double()
        variances, directions = torch.linalg.eigh(_within_classes(unit, labels))
        shrunk = variances.clamp(min=0) + self.shrinkage * variances.mean()
        factors = (shrunk / shrunk[-1]).rsqrt()  # 1 where the variance is largest
        whitening = (directions * factors) @ directions.T  # (width, width)
        self.last.weight.copy_(whitening - torch.eye(len(whitening)))
        self.last.bias.copy_(-whitening @ unit.mean(0))


def _within_classes(vectors: Tensor, labels: Tensor) -> Tensor:
    """The covariance of vectors (N, D) about the means of their classes, (D, D)."""
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = vectors.new_zeros(len(counts), vectors.shape[1]).index_add_(0, classes, vectors)
    centred = vectors - (sums / counts[:, None])[classes]
    return centred.T @ centred / len(vectors)
