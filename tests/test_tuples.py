"""Explicit tuples: what they hold, seeds and ranks, and that losses use exactly these."""

from collections import Counter

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances, losses, reducers
from pytorch_metric_learning.utils.loss_and_miner_utils import get_all_pairs_indices

from lookalike.data import sampling
from lookalike.data.tuples import (
    InPairs,
    InTriplets,
    TupleBatches,
    draw_pairs,
    draw_triplets,
    nearest_classes,
)
from lookalike.errors import InputError
from lookalike.losses.squared_contrastive import SquaredContrastiveLoss
from lookalike.losses.triplet_margin import TripletMarginLoss

SIZES = [1, 2, 3, 5, 40]  # class 0 has one image
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES))
IDS = np.arange(100, 100 + len(LABELS))
LABEL_OF = dict(zip(IDS.tolist(), LABELS.tolist(), strict=True))


def label(ids: np.ndarray) -> np.ndarray:
    return np.vectorize(LABEL_OF.__getitem__)(ids)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_triplets_hold_a_class_and_another() -> None:
    triplets = draw_triplets(IDS, LABELS, rng(), per_class=7)
    anchor, positive, negative = triplets.T
    assert (anchor != positive).all()
    assert (label(anchor) == label(positive)).all()
    assert (label(anchor) != label(negative)).all()
    assert Counter(label(anchor).tolist()) == {1: 7, 2: 7, 3: 7, 4: 7}
    assert 0 in label(negative)


def test_every_class_has_as_many_positive_as_negative_pairs() -> None:
    pairs = draw_pairs(IDS, LABELS, rng(), per_class=6)
    first, second = pairs.T
    positive = label(first) == label(second)
    assert (first != second).all()
    for kind in (positive, ~positive):
        assert Counter(label(first[kind]).tolist()) == {1: 6, 2: 6, 3: 6, 4: 6}
    assert 0 in label(second[~positive])


def test_every_choice_is_equally_likely() -> None:
    many = 3000
    triplets = draw_triplets(IDS, LABELS, rng(), per_class=many)
    anchor, positive, negative = triplets.T
    of_class_3 = label(anchor) == 3
    ordered = Counter(zip(anchor[of_class_3].tolist(), positive[of_class_3].tolist(), strict=True))
    assert len(ordered) == 5 * 4
    assert max(ordered.values()) < 1.35 * many / 20
    others = Counter(label(negative[of_class_3]).tolist())
    assert set(others) == {0, 1, 2, 4}  # a class counts once, however large it is
    assert max(others.values()) < 1.15 * many / 4


def test_hard_pairs_are_made_with_the_nearest_classes() -> None:
    nearest = [[4, 3], [2, 0], [1, 3], [4, 2], [3, 1]]
    pairs = draw_pairs(IDS, LABELS, rng(), per_class=20, nearest=nearest)
    first, second = label(pairs[:, 0]), label(pairs[:, 1])
    negative = first != second
    assert negative.sum() == 80
    met = {(a, b) for a, b in zip(first[negative].tolist(), second[negative].tolist(), strict=True)}
    assert met == {(a, b) for a in (1, 2, 3, 4) for b in nearest[a]}


@pytest.mark.parametrize(
    "nearest", [[[1], [0], [1], [2]], [[0], [0], [1], [2], [3]], [[9], [0], [1], [2], [3]], [1, 2]]
)
def test_nearest_classes_that_do_not_fit(nearest: list) -> None:
    with pytest.raises(InputError, match="nearest_classes"):
        draw_pairs(IDS, LABELS, rng(), nearest=nearest)


def test_nearest_classes_by_a_double_loop() -> None:
    vectors = rng().normal(size=(60, 4)).astype(np.float32)
    labels = np.arange(60) % 6
    found = nearest_classes(vectors, labels, 3)
    for own in range(6):
        mean = vectors[labels == own].mean(0)
        cosine = {}
        for other in range(6):
            if other != own:
                there = vectors[labels == other].mean(0)
                cosine[other] = mean @ there / np.linalg.norm(mean) / np.linalg.norm(there)
        assert found[own].tolist() == sorted(cosine, key=lambda c: -cosine[c])[:3]


def batches(sampler: TupleBatches, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_batches_hold_whole_tuples_of_the_epoch() -> None:
    sampler = TupleBatches(IDS, LABELS, 12, draw_triplets)  # 32 triplets, 4 a batch
    found = batches(sampler, epoch=3)
    assert [len(batch) for batch in found] == [12] * 8
    yielded = Counter(map(tuple, np.reshape(found, (-1, 3)).tolist()))
    assert yielded == Counter(map(tuple, sampler.tuples().tolist()))


def test_the_last_batch_is_filled_up() -> None:
    sampler = TupleBatches(IDS, LABELS, 15, draw_triplets)  # 32 triplets, 5 a batch
    found = np.reshape(batches(sampler), (-1, 3)).tolist()
    assert len(found) == 35
    assert {*map(tuple, found)} == {*map(tuple, sampler.tuples().tolist())}


def test_seeds_and_epochs_change_the_tuples_and_nothing_else_does() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return batches(TupleBatches(IDS, LABELS, 8, draw_pairs, seed=seed), epoch)

    assert order(0, 0) == order(0, 0)
    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_ranks_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        sampler = TupleBatches(IDS, LABELS, 6, draw_pairs)
        shares.append(batches(sampler))
    assert len({len(share) for share in shares}) == 1
    used = {
        tuple(pair) for share in shares for batch in share for pair in np.reshape(batch, (-1, 2))
    }
    assert used == {tuple(pair) for pair in sampler.tuples()}
    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 0, 0], "two classes or more"), ([0, 1, 2], "no class has two images")],
)
def test_data_without_tuples(labels: list[int], message: str) -> None:
    for draw in (draw_pairs, draw_triplets):
        with pytest.raises(InputError, match=message):
            draw(np.arange(3), np.array(labels), rng())


def test_a_batch_that_holds_no_whole_tuples() -> None:
    with pytest.raises(InputError, match=r"data\.batch_size=63"):
        TupleBatches(IDS, LABELS, 64, draw_triplets)


def test_miners_hand_over_the_tuples_and_refuse_others() -> None:
    embeddings = torch.zeros(6, 2)
    triplets = InTriplets()(embeddings, torch.tensor([1, 1, 0, 2, 2, 1]))
    assert [index.tolist() for index in triplets] == [[0, 3], [1, 4], [2, 5]]
    pairs = InPairs()(embeddings, torch.tensor([1, 1, 0, 2, 2, 2]))
    assert [index.tolist() for index in pairs] == [[0, 4], [1, 5], [2], [3]]
    for labels in ([1, 1, 1], [1, 0, 1], [1, 1, 0, 0]):
        with pytest.raises(InputError, match="sampler=triplets"):
            InTriplets()(embeddings, torch.tensor(labels))
    with pytest.raises(InputError, match="sampler=pairs"):
        InPairs()(embeddings, torch.tensor([1, 1, 0]))


def unit_vectors(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors)


def test_the_triplet_loss_of_the_recipe_by_a_loop() -> None:
    vectors = unit_vectors(12)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 1])
    loss = TripletMarginLoss(
        margin=1.0, distance=distances.LpDistance(power=2), reducer=reducers.MeanReducer()
    )
    value = loss(vectors, labels, InTriplets()(vectors, labels))
    hinges = []
    for a in range(0, 12, 3):
        positive = float((vectors[a] - vectors[a + 1]).square().sum())
        negative = float((vectors[a] - vectors[a + 2]).square().sum())
        hinges.append(max(0.0, positive - negative + 1))
    assert value.item() == pytest.approx(np.mean(hinges))
    assert min(hinges) == 0 < max(hinges)  # some keep the margin, and count in the mean


@pytest.mark.parametrize("margin", [0.8, 2.0])
def test_the_squared_contrastive_loss_by_a_loop(margin: float) -> None:
    vectors = unit_vectors(10)
    labels = torch.tensor([0, 0, 1, 2, 2, 2, 0, 1, 1, 2])
    value = SquaredContrastiveLoss(margin)(vectors, labels, InPairs()(vectors, labels))
    costs = []
    for first in range(0, 10, 2):
        distance = float((vectors[first] - vectors[first + 1]).norm())
        positive = labels[first] == labels[first + 1]
        costs.append(distance**2 if positive else max(0.0, margin - distance) ** 2)
    assert value.item() == pytest.approx(np.mean(costs))


def test_every_pair_at_once_costs_what_they_cost_one_by_one() -> None:
    labels = torch.arange(40) % 6
    pairs = get_all_pairs_indices(labels)
    values, gradients = [], []
    for indices in (None, pairs):
        vectors = unit_vectors(40).requires_grad_()
        value = SquaredContrastiveLoss(1.2)(vectors, labels, indices)
        value.backward()
        values.append(value.item())
        gradients.append(vectors.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_equal_images_give_the_contrastive_loss_a_finite_gradient() -> None:
    vectors = torch.tensor([[1.0, 0.0]] * 4, requires_grad=True)
    loss = SquaredContrastiveLoss(2.0)(vectors, torch.tensor([0, 0, 0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(2.0)  # 6 positive pairs cost 0, 6 negative 4 each
    assert torch.isfinite(vectors.grad).all()


def test_no_pair_costs_nothing() -> None:
    vectors = unit_vectors(1)
    assert SquaredContrastiveLoss()(vectors, torch.tensor([0])).item() == 0


def test_pytorch_metric_learning_takes_the_pairs_too() -> None:
    vectors, labels = unit_vectors(8), torch.tensor([0, 0, 1, 2, 2, 2, 1, 0])
    value = losses.ContrastiveLoss(neg_margin=2.0)(vectors, labels, InPairs()(vectors, labels))
    distance = [(vectors[i] - vectors[i + 1]).norm().item() for i in range(0, 8, 2)]
    positive, negative = (distance[0] + distance[2]) / 2, 2 - (distance[1] + distance[3]) / 2
    assert value.item() == pytest.approx(positive + negative)
