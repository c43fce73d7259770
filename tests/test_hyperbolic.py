"""Hyperbolic distances against the paper's formula with its addition of Moebius."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from conftest import Compose
from lookalike.config import build
from lookalike.losses.hyperbolic import PoincareDistance, exponential_map, poincare_distances

C = 0.1


def moebius(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    both, xx, yy = x @ y, x @ x, y @ y
    return ((1 + 2 * C * both + C * yy) * x + (1 - C * xx) * y) / (
        1 + 2 * C * both + C**2 * xx * yy
    )


def by_the_formula(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    gap = float(np.linalg.norm(moebius(-x, y)))
    return float(2 / C**0.5 * np.arctanh(C**0.5 * gap))


def points(count: int, seed: int) -> torch.Tensor:
    """Inside of the ball, also near its border."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return torch.from_numpy(directions * rng.uniform(0, 0.999 / C**0.5, (count, 1)))


def test_distances_equal_the_formula() -> None:
    some, others = points(20, 0), points(30, 1)
    found = poincare_distances(some, others, C)
    for row, x in enumerate(some.numpy()):
        for column, y in enumerate(others.numpy()):
            assert float(found[row, column]) == pytest.approx(by_the_formula(x, y), rel=1e-8)


def test_small_curvature_is_twice_the_euclidean_distance() -> None:
    some, others = points(5, 0), points(5, 1)
    flat = poincare_distances(some, others, 1e-9)
    torch.testing.assert_close(flat, 2 * torch.cdist(some, others), rtol=1e-6, atol=0)


def test_a_mapped_point_is_as_far_from_the_centre_as_twice_its_length() -> None:
    rng = np.random.default_rng(2)
    vectors = torch.from_numpy(rng.normal(size=(10, 5)))
    mapped = exponential_map(vectors, C)
    centre = torch.zeros(1, 5, dtype=torch.float64)
    far = poincare_distances(mapped, centre, C).flatten()
    torch.testing.assert_close(far, 2 * vectors.norm(dim=1))
    torch.testing.assert_close(normalize(mapped), normalize(vectors))
    assert not exponential_map(centre, C).any()


def test_the_distance_of_unit_vectors_orders_them_as_cosines_do() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(40, 8, generator=generator, dtype=torch.float64))
    distance = PoincareDistance(C, 2.3)
    found, cosines = distance(vectors), vectors @ vectors.T
    assert found.argsort(1).equal(cosines.argsort(1, descending=True))
    mapped = exponential_map(2.3 * vectors, C).numpy()
    assert float(found[3, 7]) == pytest.approx(by_the_formula(mapped[3], mapped[7]))
    pairwise = distance.pairwise_distance(vectors[:20], vectors[20:])
    torch.testing.assert_close(pairwise, found[:20, 20:].diagonal())


def test_equal_vectors_have_distance_zero_and_a_finite_gradient() -> None:
    vectors = normalize(torch.ones(3, 4)).requires_grad_()
    found = PoincareDistance()(vectors)
    found.sum().backward()
    assert not found.any()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


def test_gradients_equal_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    distance = PoincareDistance()
    assert torch.autograd.gradcheck(lambda each: distance(each)[off_diagonal], vectors)


def test_the_loss_with_two_images_a_class_is_the_papers(compose: Compose) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(8, 6, generator=generator, dtype=torch.float64))
    labels = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    loss = build(compose("train", "loss=hyperbolic").loss)
    mapped = exponential_map(2.3 * vectors, C).numpy()
    costs = []
    for i in range(8):
        logits = [-by_the_formula(mapped[i], mapped[k]) / 0.2 for k in range(8)]
        costs.append(-logits[7 - i] + np.log(sum(np.exp(logits[k]) for k in range(8) if k != i)))
    assert float(loss(vectors, labels)) == pytest.approx(np.mean(costs))
