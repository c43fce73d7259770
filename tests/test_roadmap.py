"""SupAP against loops, as a bound of average precision, and ROADMAP's sum."""

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import normalize

from conftest import Compose
from lookalike.config import build
from lookalike.losses.sup_ap import SupAPLoss

LABELS = torch.tensor([3, 3, 3, 0, 0, 7, 7, 7, 7, 9])


def batch(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(LABELS), 4, generator=generator, dtype=torch.float64)
    return normalize(drawn).requires_grad_()


def step(gap: float) -> float:
    """The paper's three pieces, with temperature 0.1, slope 3 and margin 0.2."""
    smooth = float(torch.sigmoid(torch.tensor(gap / 0.1, dtype=torch.float64)))
    if gap < 0:
        return smooth
    if gap <= 0.2:
        return smooth + 0.5
    return 3 * (gap - 0.2) + float(torch.sigmoid(torch.tensor(2.0, dtype=torch.float64))) + 0.5


def in_loops(vectors: Tensor) -> float:
    similar = (vectors @ vectors.T).tolist()
    labels, everything = LABELS.tolist(), range(len(LABELS))
    losses = []
    for query in everything:
        others = [i for i in everything if i != query]
        positives = [i for i in others if labels[i] == labels[query]]
        negatives = [i for i in others if labels[i] != labels[query]]
        precisions = []
        for item in positives:
            own = similar[query][item]
            among = 1 + sum(similar[query][i] > own for i in positives)
            before = sum(step(similar[query][i] - own) for i in negatives)
            precisions.append(among / (among + before))
        if positives:
            losses.append(1 - sum(precisions) / len(precisions))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(5))
def test_sup_ap_equals_loops(seed: int) -> None:
    vectors = batch(seed)
    loss = SupAPLoss(temperature=0.1, slope=3, margin=0.2)
    assert loss(vectors, LABELS).item() == pytest.approx(in_loops(vectors), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_sup_ap_is_never_below_one_minus_average_precision(seed: int) -> None:
    vectors = batch(seed).detach()
    similar = vectors @ vectors.T
    exact = []
    for query in range(9):  # the last has no positive
        others = [i for i in range(10) if i != query]
        relevant = (LABELS[others] == LABELS[query]).numpy()
        exact.append(average_precision_score(relevant, similar[query, others].numpy()))
    exact_loss = 1 - sum(exact) / len(exact)
    assert float(SupAPLoss()(vectors, LABELS)) >= exact_loss - 1e-9


def test_equal_similarities_count_against_the_query() -> None:
    vectors = torch.ones(4, 2, dtype=torch.float64) / 2**0.5
    labels = torch.tensor([0, 0, 1, 1])
    assert float(SupAPLoss()(vectors, labels)) == pytest.approx(2 / 3)  # one positive behind two


def test_gradients_equal_finite_differences() -> None:
    loss = SupAPLoss(temperature=0.1, slope=3, margin=0.2)
    assert torch.autograd.gradcheck(lambda vectors: loss(vectors, LABELS), batch(1))


def test_a_negative_far_ahead_has_a_gradient() -> None:
    # the negative is at cosine 1, the positive at 0
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    SupAPLoss()(vectors, torch.tensor([0, 0, 1])).backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().max() > 1e-3


def test_without_a_positive_pair_the_loss_is_zero() -> None:
    vectors = batch(0)[:3].detach().requires_grad_()
    loss = SupAPLoss()(vectors, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss == 0


def test_roadmap_is_half_sup_ap_and_half_calibration(compose: Compose) -> None:
    loss = build(compose("train", "loss=roadmap").loss)
    vectors = batch(2)
    same = (LABELS[:, None] == LABELS) & ~torch.eye(10, dtype=torch.bool)
    cosine = vectors @ vectors.T
    below = (0.9 - cosine[same]).relu()
    above = (cosine[LABELS[:, None] != LABELS] - 0.6).relu()
    calibration = below.sum() / (below > 0).sum() + above.sum() / (above > 0).sum()
    expected = 0.5 * SupAPLoss()(vectors, LABELS) + 0.5 * calibration
    torch.testing.assert_close(loss(vectors, LABELS), expected)
