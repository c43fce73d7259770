"""Potential field loss. Bhatnagar & Ahuja, CVPR 2025, arXiv:2405.18560."""

import torch
from pytorch_metric_learning.utils.common_functions import indices_tuple_not_supported
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.data.mining import matches

SOFTENED = 0.1  # of the radius: nearer than that the repulsion does not grow


class PotentialFieldLoss(nn.Module):
    """The energy of embeddings and proxies that attract their own class and repel all others.

    Attraction has the potential -1 / d^a beyond the radius, so its force decays with the distance
    d; inside of the radius there is none. Repulsion has 1 / d^a inside of the radius, and no force
    beyond it. Proxies are points like the images.

    Differs: potentials are shifted to 0 where there is no force; the sum over all pairs is divided
    by the number of points; and the repulsion is constant below a tenth of the radius, where 1 /
    d^a has no bound.

    Args:
        num_classes: C.
        embedding_size: D.
        proxies_per_class: M.
        decay: a, the power with which potentials decay.
        radius: Euclidean distance of unit vectors, in (0, 2].
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        proxies_per_class: int = 15,
        decay: float = 4.0,
        radius: float = 0.2,
    ) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(num_classes * proxies_per_class, embedding_size))
        self.proxy_labels: Tensor
        self.register_buffer(
            "proxy_labels",
            torch.arange(num_classes).repeat_interleave(proxies_per_class),
            persistent=False,
        )
        self.decay = decay
        self.radius = radius

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 in 0..C-1 -> scalar, at least 0."""
        indices_tuple_not_supported(indices)
        points = torch.cat([embeddings, normalize(self.proxies)])  # (N, D)
        classes = torch.cat([labels, self.proxy_labels])
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        positive, negative = matches(classes, classes)
        energy = self.attraction(distances) * positive + self.repulsion(distances) * negative
        return energy.sum() / len(points)

    def attraction(self, distances: Tensor) -> Tensor:
        """Potentials of the shape of the distances, 0 inside of the radius."""
        outside = (distances / self.radius).clamp(min=1)
        return self.radius**-self.decay * (1 - outside**-self.decay)

    def repulsion(self, distances: Tensor) -> Tensor:
        """Potentials of the shape of the distances, 0 beyond the radius."""
        relative = distances / self.radius
        force = self.decay * SOFTENED ** (-self.decay - 1)  # at the distance below which it stays
        nearer = force * (SOFTENED - relative).clamp(min=0)
        return self.radius**-self.decay * (relative.clamp(SOFTENED, 1) ** -self.decay - 1 + nearer)
