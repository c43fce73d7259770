"""The recall@k surrogate against loops and exact recall, its mixtures, and tables in blocks."""

from math import exp

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.errors import InputError
from lookalike.losses import blocks
from lookalike.losses.recall_at_k import RecallAtKLoss, with_mixtures
from lookalike.losses.unsupported import translate_errors

LABELS = torch.tensor([3, 3, 3, 0, 0, 7, 7, 7, 7, 9])


def batch(seed: int = 0, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(LABELS), size, generator=generator, dtype=torch.float64)
    return normalize(drawn).requires_grad_()


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value)) if value > -700 else 0.0


def in_loops(vectors: Tensor, labels: list[int], ks: list[int], temperatures: list[float]) -> float:
    """Every query, every positive, every other item; the temperature of ranks is 0.1."""
    similar = (vectors @ vectors.T).tolist()
    everything = range(len(labels))
    recalls = []
    for query in everything:
        positives = [i for i in everything if i != query and labels[i] == labels[query]]
        if not positives:
            continue
        of_k = []
        for k, temperature in zip(ks, temperatures, strict=True):
            found = 0.0
            for item in positives:
                rank = 1 + sum(
                    sigmoid((similar[query][other] - similar[query][item]) / 0.1)
                    for other in everything
                    if other not in (query, item)
                )
                found += sigmoid((k - rank) / temperature)
            of_k.append(min(found, k) / min(k, len(positives)))
        recalls.append(sum(of_k) / len(of_k))
    return 1 - sum(recalls) / len(recalls)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_equals_loops(seed: int) -> None:
    vectors = batch(seed)
    loss = RecallAtKLoss([1, 2, 4], [1, 0.5, 4], temperature=0.1, mixup=False)
    expected = in_loops(vectors, LABELS.tolist(), [1, 2, 4], [1, 0.5, 4])
    assert loss(vectors, LABELS).item() == pytest.approx(expected, rel=1e-9)


def test_cold_sigmoids_count_the_positives_among_the_k_nearest() -> None:
    vectors = batch(3)
    cold = RecallAtKLoss([2], [1e-3], temperature=1e-6, mixup=False)
    recalls = []
    similar = (vectors @ vectors.T).detach().fill_diagonal_(-2)
    for query, label in enumerate(LABELS.tolist()):
        positives = int((label == LABELS).sum()) - 1
        if positives:
            first, second = (LABELS[similar[query].topk(2).indices] == label).tolist()
            # the sigmoid is one half where a rank is k
            recalls.append((first + second / 2) / min(2, positives))
    found = cold(vectors.detach(), LABELS)
    assert float(found) == pytest.approx(1 - sum(recalls) / len(recalls), abs=1e-6)


def test_gradients_equal_finite_differences() -> None:
    loss = RecallAtKLoss([1, 4], [1, 4], temperature=0.1, mixup=False)
    assert torch.autograd.gradcheck(lambda vectors: loss(vectors, LABELS), batch())


def test_mixtures_mix_similarities_within_their_class() -> None:
    vectors = batch()
    torch.manual_seed(5)
    extended, labels = with_mixtures(vectors, LABELS)
    pairs = [(i, j) for i in range(10) for j in range(i + 1, 10) if LABELS[i] == LABELS[j]]
    assert len(extended) == len(labels) == 10 + len(pairs) == 20
    torch.manual_seed(5)
    shares = torch.rand(len(pairs), 1, dtype=torch.float64).flatten()
    similarities = vectors @ vectors.T
    for row, ((i, j), share) in enumerate(zip(pairs, shares, strict=True), start=10):
        assert labels[row] == LABELS[i]
        expected = share * similarities[i] + (1 - share) * similarities[j]
        torch.testing.assert_close(extended[row] @ vectors.T, expected)


def test_with_mixup_the_loss_is_that_of_the_longer_batch() -> None:
    vectors = batch()
    loss = RecallAtKLoss([1, 2], [1, 2], temperature=0.1)
    torch.manual_seed(1)
    found = loss(vectors, LABELS)
    torch.manual_seed(1)
    extended, labels = with_mixtures(vectors, LABELS)
    expected = in_loops(extended, labels.tolist(), [1, 2], [1, 2])
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_blocks_change_neither_value_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = RecallAtKLoss(temperature=0.1)
    results = []
    for entries in (2**24, 50):
        monkeypatch.setattr(blocks, "ENTRIES", entries)
        vectors = batch()
        torch.manual_seed(1)
        value = loss(vectors, LABELS)
        value.backward()
        results.append((value.detach(), vectors.grad))
    torch.testing.assert_close(*results)


def test_a_batch_without_a_positive_pair_has_no_gradient() -> None:
    vectors = batch()[:3].detach().requires_grad_()
    loss = RecallAtKLoss()(vectors, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss == 1
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match=r"as many loss\.k_temperatures"):
        RecallAtKLoss([1, 2], [1])
    loss = RecallAtKLoss()
    with pytest.raises(InputError, match="Set miner=none"), translate_errors(loss):
        loss(batch(), LABELS, (torch.arange(1),) * 3)
