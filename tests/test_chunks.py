"""Batches in chunks have the gradients of the whole batch, in the memory of a chunk."""

import weakref
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from lookalike.data.mining import AllPairs, BatchHardMiner
from lookalike.data.seeding import seed_everything
from lookalike.losses.cross_batch_memory import CrossBatchMemory
from lookalike.losses.potential_field import PotentialFieldLoss
from lookalike.losses.recall_at_k import RecallAtKLoss
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.losses.triplet_margin import TripletMarginLoss
from lookalike.training.chunks import embed_in_chunks
from lookalike.training.scope import LossScope
from processes import in_processes

CLASSES, SIZE = 4, 5
Make = Callable[[], nn.Module]
CASES: dict[str, tuple[Make, Make]] = {
    "triplet": (lambda: TripletMarginLoss(margin=0.5), BatchHardMiner),
    "multi_similarity": (losses.MultiSimilarityLoss, miners.MultiSimilarityMiner),
    "proxy_anchor": (lambda: losses.ProxyAnchorLoss(CLASSES, SIZE), AllPairs),
    "softmax": (lambda: SoftmaxLoss(CLASSES, SIZE), AllPairs),
    "memory": (lambda: CrossBatchMemory(losses.ContrastiveLoss(), SIZE, 30), AllPairs),
    "recall_at_k": (lambda: RecallAtKLoss(temperature=0.1), AllPairs),
    "potential_field": (lambda: PotentialFieldLoss(CLASSES, SIZE, 2), AllPairs),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, SIZE)).double()


def batch(size: int = 14) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 7, generator=generator, dtype=torch.float64)
    return images, torch.arange(size) % CLASSES


def gradients(case: str, chunk_size: int | None) -> list[Tensor]:
    """The loss, and its gradients for the network and for what the loss learns."""
    model, images_labels = network(), batch()
    torch.manual_seed(0)
    loss, miner = (make().double() for make in CASES[case])
    images, labels = images_labels
    seed_everything(3)
    embeddings = normalize(embed_in_chunks(model, images, chunk_size))
    value = loss(embeddings, labels, miner(embeddings, labels))
    value.backward()
    learned = [*model.parameters(), *loss.parameters()]
    return [value.detach(), *(each.grad for each in learned if each.grad is not None)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk_size", [1, 4, 13, 14, 100])
def test_gradients_are_those_of_the_whole_batch(case: str, chunk_size: int) -> None:
    whole, chunked = gradients(case, None), gradients(case, chunk_size)
    assert len(whole) > 4
    assert whole[1].abs().max() > 0
    torch.testing.assert_close(chunked, whole, rtol=1e-9, atol=1e-12)


class Watch(nn.Module):
    """Notes the batches that it sees, and what gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((len(images), torch.is_autocast_enabled("cpu")))
        return images


def test_each_chunk_is_embedded_twice_in_the_same_number_format() -> None:
    watch = Watch()
    model = nn.Sequential(watch, nn.Linear(7, 2))
    images = torch.randn(10, 7)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = embed_in_chunks(model, images, 4)
    assert [size for size, _ in watch.seen] == [4, 4, 2]
    embeddings.float().square().sum().backward()
    assert [size for size, _ in watch.seen] == [4, 4, 2, 2, 4, 4]  # the last one first
    assert all(mixed for _, mixed in watch.seen)


class Holding(nn.Module):
    """Counts how many of its outputs are held at once; the backward pass needs each."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[weakref.ref[Tensor]] = []
        self.most = 0

    def forward(self, images: Tensor) -> Tensor:
        output = images.exp()
        self.outputs.append(weakref.ref(output))
        self.most = max(self.most, sum(each() is not None for each in self.outputs))
        return output


@pytest.mark.parametrize(("chunk_size", "most"), [(2, 2), (None, 7)])
def test_the_activations_of_one_chunk_are_held(chunk_size: int | None, most: int) -> None:
    holding = Holding()
    model = nn.Sequential(nn.Linear(7, 5), holding, nn.Linear(5, 2)).double()
    images, _ = batch()
    parts = (images,) if chunk_size else images.split(2)
    embeddings = torch.cat([embed_in_chunks(model, each, chunk_size) for each in parts])
    embeddings.square().sum().backward()
    assert len(holding.outputs) == (14 if chunk_size else 7)
    assert holding.most <= most
    assert chunk_size or holding.most == most


def test_dropout_draws_the_same_twice() -> None:
    model = nn.Sequential(nn.Linear(7, 50), nn.Dropout(0.5), nn.Linear(50, 3)).double()
    images, _ = batch()
    results = []
    for chunk_size in (4, None):
        model.zero_grad()
        torch.manual_seed(7)
        parts = images.split(4)
        embedded = (
            embed_in_chunks(model, images, chunk_size)
            if chunk_size
            else torch.cat([model(part) for part in parts])
        )
        torch.rand(3)  # the loss draws, too
        embedded.square().sum().backward()
        results.append([embedded.detach(), *(each.grad for each in model.parameters())])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_is_of_chunks_and_moves_once_for_each(momentum: float | None) -> None:
    plain = nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Linear(6, 3))
    plain.double()
    chunked = deepcopy(plain)
    images, _ = batch()
    torch.cat([plain(part) for part in images.split(5)]).square().sum().backward()
    embed_in_chunks(chunked, images, 5).square().sum().backward()
    torch.testing.assert_close(chunked.state_dict(), plain.state_dict())
    for one, other in zip(chunked.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    norm: Any = chunked[1]
    assert norm.num_batches_tracked == 3
    assert norm.momentum == momentum


def test_frozen_batch_norm_gives_the_whole_batch() -> None:
    model = nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    model[1].eval()
    images, _ = batch()
    grads = []
    for chunk_size in (4, None):
        model.zero_grad()
        embed_in_chunks(model, images, chunk_size).square().sum().backward()
        grads.append([each.grad.clone() for each in model.parameters()])
    torch.testing.assert_close(*grads)


class Step(nn.Module):
    """A network with a loss that learns, as the learner has them."""

    def __init__(self, chunk_size: int | None) -> None:
        super().__init__()
        self.network, self.chunk_size = network(), chunk_size
        torch.manual_seed(0)
        self.loss, self.scope = losses.ProxyAnchorLoss(CLASSES, SIZE).double(), LossScope("global")

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        own = normalize(embed_in_chunks(self.network, images, self.chunk_size))
        embeddings, labels = self.scope.compared(own, labels, 0, 0)
        return self.loss(embeddings, labels)


def test_two_processes_with_chunks_are_one_without(tmp_path: Path) -> None:
    images, labels = batch()

    def of_rank(rank: int) -> list[Any]:
        model = DistributedDataParallel(Step(2))
        own = slice(7 * rank, 7 * rank + 7)
        model(images[own], labels[own]).backward()
        return [each.grad.numpy() for each in model.parameters()]

    alone = Step(None)
    alone(images, labels).backward()
    expected = [each.grad.numpy() for each in alone.parameters()]
    for found in in_processes(2, tmp_path, of_rank):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
