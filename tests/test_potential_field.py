"""The potential field loss against a double loop over the paper's potentials."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.losses.potential_field import PotentialFieldLoss

LABELS = torch.tensor([2, 0, 2, 1, 1, 0])


def loss_of(radius: float = 0.9) -> PotentialFieldLoss:
    torch.manual_seed(0)
    return PotentialFieldLoss(3, 4, proxies_per_class=2, decay=3, radius=radius).double()


def batch(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64)).requires_grad_()


def energy(vectors: Tensor, loss: PotentialFieldLoss) -> Tensor:
    """The paper's potentials, without shifts, summed over all ordered pairs of points."""
    points = [*vectors, *normalize(loss.proxies)]
    labels = [*LABELS.tolist(), *[0, 0, 1, 1, 2, 2]]
    total = vectors.new_zeros(())
    for i, point in enumerate(points):
        for j, other in enumerate(points):
            distance = (point - other).norm() if i != j else vectors.new_zeros(())
            inside = bool(distance < loss.radius)
            if i == j:
                continue
            if labels[i] == labels[j]:
                total = total - (loss.radius**-3.0 if inside else distance**-3)
            else:
                total = total + (distance**-3 if inside else loss.radius**-3.0)
    return total / len(points)


@pytest.mark.parametrize("seed", range(3))
def test_forces_equal_those_of_the_papers_potentials(seed: int) -> None:
    vectors, loss = batch(seed), loss_of()
    inputs = [vectors, loss.proxies]
    found = torch.autograd.grad(loss(vectors, LABELS), inputs)
    expected = torch.autograd.grad(energy(vectors, loss), inputs)
    assert any(each.abs().max() > 0.01 for each in expected)
    torch.testing.assert_close(found, expected)


def test_values_differ_from_the_papers_by_a_constant() -> None:
    loss = loss_of()
    batches = [batch(seed) for seed in range(4)]
    shifts = [(loss(each, LABELS) - energy(each, loss)).item() for each in batches]
    assert shifts == pytest.approx([shifts[0]] * 4)


def test_a_solved_batch_costs_nothing() -> None:
    loss = PotentialFieldLoss(2, 2, proxies_per_class=1, radius=0.2)
    loss.proxies.data = torch.eye(2)
    vectors = torch.eye(2)[[0, 1, 0]].requires_grad_()
    value = loss(vectors, torch.tensor([0, 1, 0]))
    value.backward()
    assert value == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_points_of_two_classes_at_one_place_have_a_bounded_energy() -> None:
    loss = loss_of(0.2)
    distances = torch.tensor([0.0, 1e-9, 0.019, 0.02, 0.0201, 0.19, 0.2, 1.0], dtype=torch.float64)
    distances.requires_grad_()
    potentials = loss.repulsion(distances)
    (force,) = torch.autograd.grad(potentials.sum(), distances)
    assert potentials.isfinite().all()
    assert (potentials.diff() <= 0).all()
    assert (force[:3] == force[0]).all()
    assert float(force[2]) == pytest.approx(float(force[4]), rel=0.05)
    assert not force[7:].any()


def test_an_attraction_decays() -> None:
    loss = loss_of(0.2)
    distances = torch.tensor([0.1, 0.3, 0.6, 1.8], dtype=torch.float64, requires_grad=True)
    (force,) = torch.autograd.grad(loss.attraction(distances).sum(), distances)
    assert force[0] == 0
    torch.testing.assert_close(force[1:], 3 * distances[1:].detach() ** -4)
