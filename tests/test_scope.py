"""The loss of several gloo processes is that of one process with the whole batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from lookalike.data.mining import AllPairs, BatchHardMiner, DistanceWeightedMiner
from lookalike.data.seeding import seed_everything, seed_of
from lookalike.data.tuples import InPairs
from lookalike.errors import InputError
from lookalike.losses.cross_batch_memory import CrossBatchMemory
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.triplet_margin import TripletMarginLoss
from lookalike.losses.two_views import TwoViews
from lookalike.losses.weighted_sum import WeightedSum
from lookalike.training.scope import LossScope, Scope
from processes import in_processes

CLASSES, SIZE, BATCH, STEPS = 4, 5, 14, 6  # 14 images: 7 + 7, or 4 + 5 + 5
Make = Callable[[], nn.Module]
CASES: dict[str, tuple[Make, Make]] = {
    "triplet": (lambda: TripletMarginLoss(margin=0.5), AllPairs),
    "batch_hard": (lambda: TripletMarginLoss(margin=0.5), BatchHardMiner),
    "random_miner": (lambda: TripletMarginLoss(margin=0.5), DistanceWeightedMiner),
    "multi_similarity": (losses.MultiSimilarityLoss, miners.MultiSimilarityMiner),
    "contrastive": (losses.ContrastiveLoss, AllPairs),
    "explicit_pairs": (losses.ContrastiveLoss, InPairs),
    "softmax": (lambda: SoftmaxLoss(CLASSES, SIZE), AllPairs),
    "proxy_anchor": (lambda: losses.ProxyAnchorLoss(CLASSES, SIZE), AllPairs),
    "soft_triple": (lambda: losses.SoftTripleLoss(CLASSES, SIZE), AllPairs),
    "memory": (lambda: CrossBatchMemory(losses.ContrastiveLoss(), SIZE, 30), AllPairs),
    "two_views": (lambda: TwoViews(losses.VICRegLoss(), unit_variance=True), AllPairs),
    "sum": (
        lambda: WeightedSum(
            {"softmax": SoftmaxLoss(CLASSES, SIZE), "triplet": TripletMarginLoss(margin=0.5)},
            {"softmax": 1.0, "triplet": 2.0},
        ),
        BatchHardMiner,
    ),
}


class Step(nn.Module):
    """A network with a loss and its miner, as the learner has them."""

    def __init__(self, case: str, scope: Scope) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(7, SIZE)
        self.loss, self.miner = (make() for make in CASES[case])
        self.scope = LossScope(scope, seed=3)
        self.double()  # rounding in float32 would grow from step to step

    def forward(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        own = normalize(self.network(images))
        embeddings, labels = self.scope.compared(own, labels, 0, step)
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def images_of(case: str, step: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((1, step))
    labels = np.tile(rng.integers(0, CLASSES, BATCH // 2), 2)
    if case != "two_views":
        rng.shuffle(labels)
    images = rng.normal(size=(BATCH, 7)) + np.eye(CLASSES, 7)[labels]
    return torch.from_numpy(images), torch.from_numpy(labels)


def trained(case: str, scope: Scope, rank: int = 0, count: int = 1) -> dict[str, Tensor]:
    """The state after some steps, with the curve, of a process that has a part of each batch."""
    step = Step(case, scope)
    model = step if count == 1 else DistributedDataParallel(step)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    own = slice(BATCH * rank // count, BATCH * (rank + 1) // count)
    curve = []
    for number in range(STEPS):
        images, labels = images_of(case, number)
        if count == 1:
            seed_everything(seed_of(3, 0, number))
        loss = model(images[own], labels[own], number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.detach())
    state = {name: value for name, value in step.state_dict().items() if "extra" not in name}
    return {**state, "curve": torch.stack(curve)}


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_global_loss_trains_as_one_process_with_the_whole_batch(
    count: int, tmp_path: Path
) -> None:
    def every_case(rank: int) -> dict[str, dict[str, Any]]:
        results = {case: trained(case, "global", rank, count) for case in CASES}
        return {case: {n: v.numpy() for n, v in found.items()} for case, found in results.items()}

    ranks = in_processes(count, tmp_path, every_case)
    for case in CASES:
        alone = trained(case, "global")
        assert len(set(alone["curve"].tolist())) == STEPS  # it learns
        for found in ranks:
            for name, value in alone.items():
                np.testing.assert_allclose(
                    found[case][name], value, rtol=1e-7, atol=1e-9, err_msg=f"{case}: {name}"
                )


def test_a_local_loss_has_the_pairs_of_its_own_process(tmp_path: Path) -> None:
    def first_loss(rank: int) -> float:
        return float(trained("contrastive", "local", rank, 2)["curve"][0])

    images, labels = images_of("contrastive", 0)
    step, half = Step("contrastive", "local"), BATCH // 2
    with torch.no_grad():
        parts = [slice(half), slice(half, BATCH)]
        expected = [float(step(images[part], labels[part], 0)) for part in parts]
        whole = float(step(images, labels, 0))
    assert in_processes(2, tmp_path, first_loss) == pytest.approx(expected, rel=1e-6)
    assert whole != pytest.approx(np.mean(expected), rel=1e-3)


def test_a_scope_that_is_not_known() -> None:
    name: Any = "both"
    with pytest.raises(InputError, match="it is global or local"):
        LossScope(name)


def test_the_log_says_which() -> None:
    assert LossScope("global").description(3).endswith("(loss_scope=global)")
    assert LossScope("local").description(3).endswith("(loss_scope=local)")
    assert LossScope("local").description(1) == ""


def test_a_memory_that_is_smaller_than_the_batch() -> None:
    memory = CrossBatchMemory(losses.ContrastiveLoss(), SIZE, memory_size=10)
    with pytest.raises(InputError, match=r"Raise loss\.memory_size"):
        memory(torch.randn(12, SIZE), torch.arange(12))
