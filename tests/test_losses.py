"""Our losses against loops, and the schedules."""

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses
from torch import nn
from torch.nn.functional import normalize

from lookalike.config import build
from lookalike.errors import InputError
from lookalike.losses.anchor_sums import NTXentLoss
from lookalike.losses.centroid_triplet import CentroidTripletLoss
from lookalike.losses.class_weights import ClassWeightedReducer
from lookalike.losses.manifold import ManifoldLoss
from lookalike.losses.mined import remark_on_miner
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.two_views import TwoViews
from lookalike.losses.unsupported import translate_errors
from lookalike.losses.weighted_sum import WeightedSum
from lookalike.training import schedules


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


def test_two_views_make_every_image_a_class_of_its_own() -> None:
    embeddings, _ = batch()
    labels = torch.tensor([5, 5, 5, 2, 5, 5, 5, 2])
    loss = TwoViews(losses.SelfSupervisedLoss(NTXentLoss(temperature=0.5)))
    costs = []
    for view in range(8):
        others = [j for j in range(8) if j != view]
        logits = embeddings[view] @ embeddings[others].T / 0.5
        costs.append(-logits.log_softmax(0)[others.index((view + 4) % 8)])
    torch.testing.assert_close(loss(embeddings[:8], labels), torch.stack(costs).mean())


def test_two_views_scale_what_they_compare() -> None:
    embeddings, _ = batch()
    labels = torch.zeros(8, dtype=torch.int64)
    for size in (4, embeddings.shape[1]):
        views = normalize(embeddings[:8, :size])
        found = TwoViews(losses.VICRegLoss(), unit_variance=True)(views, labels)
        scaled = views * size**0.5
        torch.testing.assert_close(scaled.square().mean(1), torch.ones(8))
        expected = losses.VICRegLoss()(scaled[:4], ref_emb=scaled[4:])
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("labels", "mined", "message"),
    [
        ([1, 2, 1, 3], None, "sampler=views"),
        ([1, 1, 1], None, "sampler=views"),
        ([1, 2, 1, 2], (), "miner=none"),
    ],
)
def test_two_views_refuse(labels: list[int], mined: object, message: str) -> None:
    embeddings, _ = batch()
    with pytest.raises(InputError, match=message):
        TwoViews(losses.VICRegLoss())(embeddings[: len(labels)], torch.tensor(labels), mined)


def test_manifold_gives_each_class_one_proxy() -> None:
    embeddings, _ = batch()
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])
    loss = ManifoldLoss(num_classes=7, l=6, K=3)
    counts = loss.proxy_of.bincount()
    assert sorted(counts.tolist()) == [2, 2, 3]
    rival = losses.ManifoldLoss(l=6, K=3)
    rival.load_state_dict({"proxies": loss.proxies.detach()})
    expected = rival(embeddings, indices_tuple=loss.proxy_of[labels])
    torch.testing.assert_close(loss(embeddings, labels), expected)


def test_class_weights_equal_a_loop() -> None:
    embeddings, labels = batch()
    weights = [float(label + 1) for label in range(10)]
    loss = losses.NCALoss(reducer=ClassWeightedReducer(weights))
    each = [losses.NCALoss(reducer=ClassWeightedReducer(one)) for one in torch.eye(10).tolist()]
    expected = sum(weights[label] * each[label](embeddings, labels) for label in range(10))
    torch.testing.assert_close(loss(embeddings, labels), expected)


def test_what_no_remedy_is_known_for_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="a bug"), translate_errors(nn.Identity()):
        raise ValueError("a bug")
    with (
        pytest.raises(InputError, match=r"Identity .* Set miner=none"),
        translate_errors(nn.Identity()),
    ):
        raise ValueError("indices_tuple is not supported for this loss function")


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


@pytest.mark.parametrize(
    "name", ["arcface", "proxy_nca", "norm_softmax", "proxy_anchor", "softmax"]
)
def test_losses_of_images_train_without_a_miner(compose: Any, name: str) -> None:
    """A miner's pairs would become weights of the images: other losses than their names say."""
    config = compose("train", f"loss={name}")
    assert build(config.data.miner)(None, None) is None


@pytest.mark.parametrize(
    ("loss", "miner"),
    [
        ("triplet", "TripletMarginMiner"),
        ("multi_similarity", "MultiSimilarityMiner"),
        ("margin", "DistanceWeightedMiner"),
        ("softmax_triplet", "BatchHardMiner"),
        ("dynamic_soft_margin", "BatchHardMiner"),
        ("contrastive", "AllPairs"),
        ("circle", "AllPairs"),
    ],
)
def test_a_loss_brings_the_miner_of_its_paper(compose: Any, loss: str, miner: str) -> None:
    assert type(build(compose("train", f"loss={loss}").data.miner)).__name__ == miner
    chosen = compose("train", f"loss={loss}", "miner=hdc")
    assert type(build(chosen.data.miner)).__name__ == "HDCMiner"
    experiment = compose("train", "experiment=flowers_losses", f"loss={loss}")
    assert type(build(experiment.data.miner)).__name__ == "AllPairs"


def test_a_miner_beside_a_loss_of_images_is_said(compose: Any) -> None:
    def remark(loss: str, miner: str) -> str | None:
        config = compose("train", f"loss={loss}", f"miner={miner}", "data.num_classes=3")
        return remark_on_miner(build(config.loss), build(config.data.miner))

    for loss in ("arcface", "cosface", "proxy_nca", "proxy_anchor", "soft_triple", "norm_softmax"):
        assert "weights of the images" in str(remark(loss, "multi_similarity"))
        assert remark(loss, "none") is None
    assert "does nothing" in str(remark("softmax", "batch_hard"))
    for loss in ("triplet", "contrastive", "softmax_triplet", "multi_similarity"):
        assert remark(loss, "multi_similarity") is None


def test_arcface_alone_is_the_sum_over_all_images(compose: Any) -> None:
    """15.48 with the multi-similarity miner, which also leaves two images without a gradient."""
    e0, e1, e2 = torch.eye(3)
    vectors = torch.stack([e0, e0, e1, e1, e2, 0.8 * e0 + 0.6 * e2]).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    config = compose("train", "loss=arcface", "data.num_classes=3", "embedding_size=3")
    loss, miner = build(config.loss), build(config.data.miner)
    with torch.no_grad():
        loss.W.copy_(torch.eye(3).roll(1, 0))
    value = loss(vectors, labels, miner(vectors, labels))
    value.backward()
    assert bool((vectors.grad.abs().sum(1) > 0).all())  # type: ignore[union-attr]
    cosine = vectors.detach() @ loss.W.detach()
    own = cosine[torch.arange(6), labels]
    with_margin = torch.cos(torch.acos(own) + np.radians(28.6))
    logits = cosine.scatter(1, labels[:, None], with_margin[:, None]) * 64
    torch.testing.assert_close(value, nn.functional.cross_entropy(logits, labels))
