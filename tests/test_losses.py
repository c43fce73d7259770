"""Our losses against loops, and the schedules."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from lookalike import schedules
from lookalike.losses.centroid_triplet import CentroidTripletLoss
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.weighted_sum import WeightedSum


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([3, 3, 3, 0, 0, 7, 7, 7, 9])
    return normalize(torch.randn(9, 6, generator=generator)).requires_grad_(), labels


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
def test_centroid_triplet_equals_a_double_loop(margin: float) -> None:
    embeddings, labels = batch()
    violations = []
    for anchor in range(9):
        others = [j for j in range(9) if labels[j] == labels[anchor] and j != anchor]
        if not others:
            continue
        positive = (embeddings[anchor] - embeddings[others].mean(0)).square().sum()
        for label in set(labels.tolist()) - {int(labels[anchor])}:
            centroid = embeddings[labels == label].mean(0)
            violations.append(positive - (embeddings[anchor] - centroid).square().sum() + margin)
    violating = [value for value in violations if value > 0]
    expected = sum(violating) / max(1, len(violating))
    found = CentroidTripletLoss(margin)(embeddings, labels)
    torch.testing.assert_close(found, torch.as_tensor(expected))


def test_centroid_triplet_of_a_solved_batch_is_zero_with_a_gradient() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    embeddings = torch.eye(2)[labels].requires_grad_()
    loss = CentroidTripletLoss(0.2)(embeddings, labels)
    loss.backward()
    assert loss == 0
    assert torch.isfinite(embeddings.grad).all()


def test_softmax_equals_its_definition() -> None:
    embeddings, _ = batch()
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0])
    loss = SoftmaxLoss(4, 6, label_smoothing=0.1, scale=10.0)
    probabilities = loss.logits(embeddings).softmax(1)
    target = torch.full((9, 4), 0.1 / 4)
    target[torch.arange(9), labels] += 0.9
    expected = -(target * probabilities.log()).sum(1).mean()
    torch.testing.assert_close(loss(embeddings, labels), expected)


def test_weighted_sum_keeps_its_terms_apart() -> None:
    embeddings, labels = batch()
    parts = {"centroid": CentroidTripletLoss(), "softmax": SoftmaxLoss(10, 6)}
    loss = WeightedSum(parts, {"centroid": 2.0, "softmax": 0.5})
    total = loss(embeddings, labels)
    torch.testing.assert_close(total, 2 * loss.terms["centroid"] + 0.5 * loss.terms["softmax"])
    assert len(list(loss.parameters())) == 2
    with pytest.raises(ValueError, match="weights"):
        WeightedSum(parts, {"centroid": 1.0})


def rates(schedule: object, steps: int = 100, **options: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, steps, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules() -> None:
    assert rates(schedules.constant) == [2.0] * 100
    cosine = rates(schedules.cosine, warmup=0.1)
    assert cosine[0] < cosine[5] < cosine[10] == max(cosine) == pytest.approx(2.0)
    assert cosine[-1] < 0.01
    assert cosine[55] == pytest.approx(1.0)
    steps = rates(schedules.steps, milestones=[0.5, 0.75], gamma=0.1)
    assert (steps[49], steps[50], steps[75]) == pytest.approx((2.0, 0.2, 0.02))
