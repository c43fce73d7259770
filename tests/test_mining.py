"""Miners and losses that scale, against pytorch-metric-learning's on batches that hurt."""

from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.data import mining
from lookalike.errors import InputError
from lookalike.losses.anchor_sums import LiftedStructureLoss, NTXentLoss
from lookalike.losses.triplet_margin import TripletMarginLoss

BATCHES = {
    "usual": torch.arange(8).repeat_interleave(4),
    "uneven, some classes with one image": torch.tensor([0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 4, 5, 5]),
    "one class": torch.zeros(10, dtype=torch.int64),
    "no positives": torch.arange(10),
}
every_batch = pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)


def embeddings_of(labels: Tensor, size: int = 6, seed: int = 0) -> Tensor:
    """The first five are equal."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = normalize(torch.randn(len(labels), size, generator=generator))
    embeddings[:5] = embeddings[0].clone()
    return embeddings


def value_and_gradient(
    loss: nn.Module, embeddings: Tensor, labels: Tensor, indices: object = None
) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, labels, indices)
    value.backward()
    assert torch.isfinite(leaf.grad).all()
    return value.detach(), leaf.grad


def as_set(triplets: tuple[Tensor, ...]) -> set[tuple[int, ...]]:
    return set(zip(*(part.tolist() for part in triplets), strict=True))


@every_batch
@pytest.mark.parametrize("kind", ["all", "semihard", "hard"])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(
    "distance",
    [distances.LpDistance(), distances.LpDistance(power=2), distances.CosineSimilarity()],
    ids=["euclidean", "squared", "cosine"],
)
def test_triplets_unlisted_equal_triplets_listed(
    labels: Tensor, kind: str, margin: float, distance: nn.Module
) -> None:
    embeddings = embeddings_of(labels)
    miner = miners.TripletMarginMiner(margin=margin, type_of_triplets=kind, distance=distance)
    listed = miner(embeddings, labels)
    rival = losses.TripletMarginLoss(margin=margin, distance=distance)
    expected = value_and_gradient(rival, embeddings, labels, listed)
    ours = TripletMarginLoss(kind, margin=margin, distance=distance)
    torch.testing.assert_close(value_and_gradient(ours, embeddings, labels), expected)
    torch.testing.assert_close(value_and_gradient(ours, embeddings, labels, listed), expected)


def test_semihard_triplets_equal_a_triple_loop() -> None:
    labels = BATCHES["uneven, some classes with one image"]
    embeddings = embeddings_of(labels)
    found = []
    for a, own in enumerate(labels):
        for p in range(len(labels)):
            for n in range(len(labels)):
                if p == a or labels[p] != own or labels[n] == own:
                    continue
                positive, negative = ((embeddings[a] - embeddings[i]).norm() for i in (p, n))
                if positive < negative < positive + 0.5:
                    found.append(positive - negative + 0.5)
    assert len(found) > 10
    value = TripletMarginLoss("semihard", margin=0.5)(embeddings, labels)
    torch.testing.assert_close(value, torch.stack(found).mean())


@pytest.mark.parametrize("loss", [TripletMarginLoss, NTXentLoss, LiftedStructureLoss])
@pytest.mark.parametrize(
    "miner",
    [miners.MultiSimilarityMiner(), miners.UniformHistogramMiner(), miners.BatchHardMiner()],
    ids=["pairs", "pairs more than once", "triplets"],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reducer": reducers.MeanReducer()},
        {"embedding_regularizer": regularizers.LpRegularizer()},
        {"distance": distances.CosineSimilarity()},
    ],
    ids=["plain", "reducer", "regularizer", "distance"],
)
@pytest.mark.parametrize("mined", [True, False], ids=["mined", "every pair"])
def test_miners_reducers_and_regularizers_work_as_with_the_rival(
    loss: type[nn.Module], miner: nn.Module, options: dict[str, nn.Module], mined: bool
) -> None:
    labels = BATCHES["usual"]
    embeddings = embeddings_of(labels)
    indices = miner(embeddings, labels) if mined else None
    rival = getattr(losses, loss.__name__)(**options)
    torch.testing.assert_close(
        value_and_gradient(loss(**options), embeddings, labels, indices),
        value_and_gradient(rival, embeddings, labels, indices),
    )


@pytest.mark.parametrize(
    "options", [{"swap": True}, {"smooth_loss": True}], ids=["swap", "smooth_loss"]
)
def test_triplets_that_need_a_list(options: dict[str, bool]) -> None:
    labels = BATCHES["usual"]
    embeddings = embeddings_of(labels)
    torch.testing.assert_close(
        value_and_gradient(TripletMarginLoss(**options), embeddings, labels),
        value_and_gradient(losses.TripletMarginLoss(**options), embeddings, labels),
    )


def test_a_misspelt_kind_of_triplet() -> None:
    with pytest.raises(InputError, match="type_of_triplets=all"):
        TripletMarginLoss("semi-hard")


@every_batch
@pytest.mark.parametrize("loss", [NTXentLoss, LiftedStructureLoss])
def test_sums_of_anchors_equal_the_rival(labels: Tensor, loss: type[nn.Module]) -> None:
    embeddings = embeddings_of(labels)
    torch.testing.assert_close(
        value_and_gradient(loss(), embeddings, labels),
        value_and_gradient(getattr(losses, loss.__name__)(), embeddings, labels),
    )


def test_lifted_structure_of_a_pair_without_negatives_costs_nothing() -> None:
    embeddings = embeddings_of(torch.arange(8), seed=1)
    pairs = tuple(torch.tensor(part) for part in ([5, 6, 0], [6, 5, 7], [0, 0], [2, 3]))
    only_mined = tuple(torch.tensor(part) for part in ([0], [7], [0, 0], [2, 3]))
    whole, _ = value_and_gradient(LiftedStructureLoss(), embeddings, torch.arange(8), pairs)
    part, _ = value_and_gradient(LiftedStructureLoss(), embeddings, torch.arange(8), only_mined)
    assert part > 0
    torch.testing.assert_close(whole, part / 3)


@pytest.mark.parametrize("loss", [TripletMarginLoss, NTXentLoss, LiftedStructureLoss])
def test_memory_of_other_batches(loss: type[nn.Module]) -> None:
    labels = BATCHES["usual"]
    found: list[tuple[Tensor, Tensor]] = []
    for inner in (loss(), getattr(losses, loss.__name__)()):
        memory = losses.CrossBatchMemory(inner, embedding_size=6, memory_size=70)
        found += [
            value_and_gradient(memory, embeddings_of(labels, seed=seed), labels)
            for seed in range(3)
        ]
    torch.testing.assert_close(found[:3], found[3:])


@every_batch
@pytest.mark.parametrize("kind", ["all", "semihard", "hard", "easy"])
@pytest.mark.parametrize("entries", [20, 2**24], ids=["in parts", "at once"])
def test_triplet_margin_miner_lists_the_same(
    labels: Tensor, kind: str, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "ENTRIES", entries)
    embeddings = embeddings_of(labels)
    for distance in (distances.LpDistance(), distances.CosineSimilarity()):
        options = {"type_of_triplets": kind, "distance": distance}
        found = mining.TripletMarginMiner(**options)(embeddings, labels)
        expected = miners.TripletMarginMiner(**options)(embeddings, labels)
        torch.testing.assert_close(found, expected)


@every_batch
def test_angular_miner_lists_the_same_but_for_equal_images(labels: Tensor) -> None:
    embeddings = embeddings_of(labels).double()
    found = as_set(mining.AngularMiner()(embeddings, labels))
    expected = as_set(miners.AngularMiner()(embeddings, labels))
    equal = {(a, p, n) for a, p, n in expected if torch.equal(embeddings[a], embeddings[p])}
    assert found == expected - equal


@every_batch
@pytest.mark.parametrize("distance", [distances.LpDistance(), distances.CosineSimilarity()])
def test_batch_hard_miner_finds_the_same(labels: Tensor, distance: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(len(labels), 6, generator=generator)  # no ties
    found = mining.BatchHardMiner(distance=distance)(embeddings, labels)
    torch.testing.assert_close(found, miners.BatchHardMiner(distance=distance)(embeddings, labels))


def shares(mine: Callable[[], tuple[Tensor, ...]], size: int, draws: int) -> Tensor:
    """Every triplet's mean number in a draw, (B, B, B)."""
    torch.manual_seed(0)
    counts = torch.zeros(size, size, size)
    for _ in range(draws):
        anchor, positive, negative = mine()
        ones = torch.ones(len(anchor))
        counts.index_put_((anchor, positive, negative), ones, accumulate=True)
    return counts / draws


def test_distance_weighted_miner_draws_from_the_definition_and_as_the_rival() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
    embeddings = normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(2)) + 0.5)
    expected = torch.zeros(8, 8, 8)
    for a in range(8):
        negatives = {}
        for n in range(8):
            distance = max(0.5, float((embeddings[a] - embeddings[n]).norm()))
            if labels[n] != labels[a] and distance < 1.4:
                negatives[n] = distance**-2 * (1 - distance**2 / 4) ** -0.5
        positives = [p for p in range(8) if labels[p] == labels[a] and p != a]
        for p in positives:
            for n, weight in negatives.items():
                share = weight / sum(negatives.values())
                expected[a, p, n] = (len(positives) + 1) * share / len(positives)
    assert (expected > 0).sum() > 20
    draws = 4000
    tolerance = 5 * (1 / draws) ** 0.5  # five standard errors of counts with variance below 1
    for miner in (mining.DistanceWeightedMiner(), miners.DistanceWeightedMiner()):
        found = shares(lambda miner=miner: miner(embeddings, labels), 8, draws)
        assert ((found > 0) == (expected > 0)).all()
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def test_distance_weighted_miner_keeps_anchors_whose_negatives_are_far() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    embeddings = torch.zeros(6, 512)
    embeddings[range(6), [0, 0, 0, 0, 1, 1]] = 1.0  # classes 0 and 1 coincide, 2 is far off
    embeddings[4:, 0] = 0.1
    anchors = mining.DistanceWeightedMiner()(normalize(embeddings), labels)[0]
    assert set(anchors.tolist()) == set(range(6))


@every_batch
def test_distance_weighted_miner_draws_as_many_as_the_rival(labels: Tensor) -> None:
    embeddings = embeddings_of(labels)
    found = mining.DistanceWeightedMiner()(embeddings, labels)
    expected = miners.DistanceWeightedMiner()(embeddings, labels)
    torch.testing.assert_close(found[0].bincount(), expected[0].bincount())
    assert all((labels[found[0]] == labels[found[1]]) & (found[0] != found[1]))
    assert all(labels[found[0]] != labels[found[2]])


@every_batch
def test_uniform_histogram_draws_evenly_from_the_same_bins(labels: Tensor) -> None:
    values = torch.cat([embeddings_of(labels).flatten(), torch.tensor([-1.0, 1.0])])
    ours = mining.UniformHistogramMiner(num_bins=7)
    rival = miners.UniformHistogramMiner(num_bins=7)
    bins = ours.get_bins(values)
    found, expected = (miner.filter_by_bin(values, bins, 50) for miner in (ours, rival))
    inner = bins[1:-1].contiguous()
    ours_in, rival_in = (
        torch.bucketize(values[drawn], inner, right=True) for drawn in (found, expected)
    )
    torch.testing.assert_close(ours_in, rival_in)
    draws = ours.filter_by_bin(values, bins, 20_000)
    fullest = torch.bucketize(values, inner, right=True).mode().values
    members = torch.bucketize(values, inner, right=True) == fullest
    counts = draws.bincount(minlength=len(values))[members] / 20_000
    assert counts.sum() == pytest.approx(1)
    even = 1 / len(counts)
    torch.testing.assert_close(
        counts, torch.full_like(counts, even), atol=5 * (even / 20_000) ** 0.5, rtol=0
    )
