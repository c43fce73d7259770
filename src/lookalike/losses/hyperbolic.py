"""Distances in hyperbolic space, in its model of a ball.

Ermolov et al., "Hyperbolic Vision Transformers", CVPR 2022, arXiv:2203.10833, section 3.1.
"""

from pytorch_metric_learning.distances import BaseDistance
from torch import Tensor, cdist


class PoincareDistance(BaseDistance):
    """The distance of two embeddings in a hyperbolic space.

    Embeddings are shortened or stretched to the length `radius`, and mapped to the ball by the
    exponential map at its centre. Differs: the paper shortens embeddings that are longer than the
    radius, and leaves shorter ones; here all have length 1. So all points lie on one sphere, where
    a larger cosine always is a smaller distance: evaluation and search, which rank by cosine, give
    the order of this distance.

    Args:
        curvature: c; the space has the curvature -c. The larger, the more do distances exceed
            Euclidean ones.
        radius: length of an embedding before it is mapped; the paper's clipping radius.
    """

    def __init__(self, curvature: float = 0.1, radius: float = 2.3) -> None:
        super().__init__(normalize_embeddings=True)
        self.curvature = curvature
        self.radius = radius

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """(B, D), (R, D), of length 1 -> (B, R)."""
        return poincare_distances(
            exponential_map(self.radius * query_emb, self.curvature),
            exponential_map(self.radius * ref_emb, self.curvature),
            self.curvature,
        )

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """(B, D), (B, D), of length 1 -> (B,), row by row."""
        rows = self.compute_mat(query_emb[:, None], ref_emb[:, None])  # (B, 1, 1)
        return rows.flatten()


def exponential_map(vectors: Tensor, curvature: float) -> Tensor:
    """Vectors (..., D) -> points (..., D) of the ball of radius 1 / sqrt(c), at its centre.

    The distance of a point from the centre is twice the length of its vector.
    """
    length = curvature**0.5 * vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return length.tanh() / length * vectors


def poincare_distances(points: Tensor, others: Tensor, curvature: float) -> Tensor:
    """Points (..., B, D) and (..., R, D) inside of the ball -> distances (..., B, R).

    The paper's 2 / sqrt(c) artanh(sqrt(c) |-x + y|), with its addition of Moebius, is the same as
    2 / sqrt(c) arsinh(sqrt(c) |x - y| / sqrt((1 - c |x|^2) (1 - c |y|^2))), which is also exact for
    near points.
    """
    root = curvature**0.5
    gaps = cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
    inner = 1 - curvature * points.square().sum(-1)
    outer = 1 - curvature * others.square().sum(-1)
    scale = (inner[..., :, None] * outer[..., None, :]).sqrt()
    return 2 / root * (root * gaps / scale).arcsinh()
