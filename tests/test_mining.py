"""Miners and losses that scale, against pytorch-metric-learning's on batches that hurt."""

from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.data import mining
from lookalike.errors import InputError
from lookalike.losses.anchor_sums import LiftedStructureLoss, NTXentLoss, TupletMarginLoss
from lookalike.losses.histograms import DynamicSoftMarginLoss, HistogramLoss
from lookalike.losses.margin import MarginLoss
from lookalike.losses.smoothed_ranks import PNPLoss, SmoothAPLoss
from lookalike.losses.snr import SignalToNoiseRatioContrastiveLoss
from lookalike.losses.threshold_consistent_margin import ThresholdConsistentMarginLoss
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
    return value.detach().float(), leaf.grad.float()  # the rivals' precision


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


@pytest.mark.parametrize("loss", [TripletMarginLoss, NTXentLoss, LiftedStructureLoss, MarginLoss])
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


UNLISTED = [
    (NTXentLoss, {}),
    (LiftedStructureLoss, {}),
    (MarginLoss, {}),
    (MarginLoss, {"distance": distances.CosineSimilarity(), "beta": 0.4}),
    (SignalToNoiseRatioContrastiveLoss, {}),
    (SignalToNoiseRatioContrastiveLoss, {"pos_margin": 0.1, "neg_margin": 2.5}),
    (ThresholdConsistentMarginLoss, {}),
    (ThresholdConsistentMarginLoss, {"margin_plus": -0.9, "margin_minus": 0.95}),
    (TupletMarginLoss, {}),
    (HistogramLoss, {}),
    (HistogramLoss, {"n_bins": 5}),
    (DynamicSoftMarginLoss, {}),
    (PNPLoss, {}),
    *((PNPLoss, {"variant": variant, "b": 3, "alpha": 2}) for variant in ("Ds", "Dq", "Iu", "Ib")),
]
UNTIED = (TupletMarginLoss, HistogramLoss)  # the rival fails on equal images
of_the_rival = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # HistogramLoss
every_unlisted = pytest.mark.parametrize(("loss", "options"), UNLISTED)


def for_the_rival(loss: type[nn.Module], labels: Tensor) -> Tensor:
    """Embeddings that hurt as much as the rival bears."""
    if loss in UNTIED:
        generator = torch.Generator().manual_seed(0)
        return normalize(torch.randn(len(labels), 6, generator=generator)).double()
    return embeddings_of(labels, 64 if loss is DynamicSoftMarginLoss else 6)


@of_the_rival
@every_batch
@every_unlisted
def test_sums_without_a_list_equal_the_rival(
    labels: Tensor, loss: type[nn.Module], options: dict[str, object]
) -> None:
    embeddings = for_the_rival(loss, labels)
    torch.testing.assert_close(
        value_and_gradient(loss(**options), embeddings, labels),
        value_and_gradient(getattr(losses, loss.__name__)(**options), embeddings, labels),
    )


NOTHING = torch.zeros(0, dtype=torch.int64)
MINED = {
    "pairs, one twice": tuple(
        torch.tensor(part)
        for part in ([6, 6, 9, 5], [5, 5, 8, 6], [6, 6, 9, 2, 0], [3, 7, 1, 3, 5])
    ),
    "triplets, one twice": tuple(
        torch.tensor(part) for part in ([6, 6, 9, 5], [5, 5, 8, 6], [3, 3, 1, 7])
    ),
    "no pairs": (NOTHING,) * 4,
    "no triplets": (NOTHING,) * 3,
    "no positives": (NOTHING, NOTHING, torch.tensor([6, 0]), torch.tensor([3, 5])),
}


@of_the_rival
@pytest.mark.parametrize(("loss", "options"), [each for each in UNLISTED if each[0] is not PNPLoss])
@pytest.mark.parametrize("mined", MINED.values(), ids=MINED)
def test_mined_pairs_count_as_for_the_rival(
    mined: tuple[Tensor, ...], loss: type[nn.Module], options: dict[str, object]
) -> None:
    labels = BATCHES["uneven, some classes with one image"]
    embeddings = for_the_rival(loss, labels)
    torch.testing.assert_close(
        value_and_gradient(loss(**options), embeddings, labels, mined),
        value_and_gradient(getattr(losses, loss.__name__)(**options), embeddings, labels, mined),
    )


@every_batch
@pytest.mark.parametrize("num_classes", [None, 10], ids=["one beta", "a beta a class"])
@pytest.mark.parametrize("indices", [None, "triplets"], ids=["every pair", "listed"])
def test_margin_learns_beta_as_the_rival(
    labels: Tensor, num_classes: int | None, indices: str | None
) -> None:
    embeddings = embeddings_of(labels)
    mined = miners.BatchHardMiner()(embeddings, labels) if indices else None
    found = []
    for kind in (MarginLoss, losses.MarginLoss):
        loss = kind(learn_beta=True, nu=0.3, beta=0.9, num_classes=num_classes)
        found.append(value_and_gradient(loss, embeddings, labels, mined))
        assert isinstance(loss.beta, nn.Parameter)
        found[-1] += (torch.zeros_like(loss.beta) if loss.beta.grad is None else loss.beta.grad,)
    torch.testing.assert_close(*found)


def test_margin_with_few_triplets_or_other_reducers_lists_them() -> None:
    labels = BATCHES["usual"]
    embeddings = embeddings_of(labels)
    for options in ({"reducer": reducers.MeanReducer()}, {"triplets_per_anchor": 3}):
        found = []
        for kind in (MarginLoss, losses.MarginLoss):
            torch.manual_seed(0)
            found.append(value_and_gradient(kind(**options), embeddings, labels))
        torch.testing.assert_close(*found)


def test_a_fixed_beta_follows_the_loss_to_its_device() -> None:
    assert MarginLoss(num_classes=3).to("meta").beta.device.type == "meta"
    assert not MarginLoss(num_classes=3).state_dict()  # it's in the configuration


@every_batch
@pytest.mark.parametrize("loss", UNTIED)
def test_equal_images_where_the_rival_fails(labels: Tensor, loss: type[nn.Module]) -> None:
    value, _ = value_and_gradient(loss(), embeddings_of(labels), labels)
    assert torch.isfinite(value)


def test_histogram_of_equal_images_equals_a_double_loop() -> None:
    labels = BATCHES["uneven, some classes with one image"]
    embeddings = embeddings_of(labels)
    sizes = [int((labels == own).sum()) for own in labels]
    similar: dict[bool, list[float]] = {True: [], False: []}
    for i in range(len(labels)):
        for j in range(i):
            if max(sizes[i], sizes[j]) > 1:  # or neither is the anchor of a triplet
                similar[bool(labels[i] == labels[j])].append(float(embeddings[i] @ embeddings[j]))
    nodes = [k / 50 - 1 for k in range(101)]

    def density(values: list[float], node: float) -> float:
        return sum(max(0.0, 1 - 50 * abs(value - node)) for value in values) / len(values)

    expected = sum(
        density(similar[False], node)
        * sum(density(similar[True], below) for below in nodes[: k + 1])
        for k, node in enumerate(nodes)
    )
    assert expected > 0.1
    found, _ = value_and_gradient(HistogramLoss(), embeddings, labels)
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_dynamic_soft_margin_remembers_as_the_rival() -> None:
    labels = BATCHES["usual"]
    ours, rival = DynamicSoftMarginLoss(), losses.DynamicSoftMarginLoss()
    for seed in range(3):
        embeddings = embeddings_of(labels, size=64, seed=seed)  # no gap beyond its last node
        found, _ = value_and_gradient(ours, embeddings, labels)
        with torch.no_grad():  # its second backward pass fails
            torch.testing.assert_close(found, rival(embeddings, labels))


def test_a_gap_beyond_the_last_node_of_a_dynamic_soft_margin_counts_there() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    value, _ = value_and_gradient(DynamicSoftMarginLoss(), embeddings, torch.tensor([0, 0, 1]))
    assert value == pytest.approx((2 * 1.0 + 0 * 0.0) / 2)


def test_smooth_ap_equals_the_rival_where_it_is_right() -> None:
    labels = torch.arange(4).repeat_interleave(4)
    embeddings = embeddings_of(labels)
    torch.testing.assert_close(
        value_and_gradient(SmoothAPLoss(), embeddings, labels),
        value_and_gradient(losses.SmoothAPLoss(), embeddings, labels),
    )
    mined = miners.MultiSimilarityMiner()(embeddings, labels)
    torch.testing.assert_close(
        value_and_gradient(SmoothAPLoss(), embeddings, labels, mined),
        value_and_gradient(losses.SmoothAPLoss(), embeddings, labels, mined),
    )


@every_batch
def test_smooth_ap_equals_a_triple_loop(labels: Tensor) -> None:
    embeddings = embeddings_of(labels).double()
    similarities = embeddings @ embeddings.T

    def rank(query: int, item: int, among: list[int]) -> Tensor:
        gaps = [similarities[query, j] - similarities[query, item] for j in among if j != item]
        return sum((torch.sigmoid(gap / 0.01) for gap in gaps), torch.tensor(1.0))

    precisions = []
    for query, own in enumerate(labels):
        relevant = [j for j in range(len(labels)) if labels[j] == own]
        ratios = [
            rank(query, item, relevant) / rank(query, item, list(range(len(labels))))
            for item in relevant
        ]
        precisions.append(sum(ratios) / len(ratios))
    value, _ = value_and_gradient(SmoothAPLoss(), embeddings, labels)
    torch.testing.assert_close(value, (1 - torch.stack(precisions).mean()).float())


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


@pytest.mark.slow
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
