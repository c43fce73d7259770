"""The same seed trains the same weights, whoever reads the images and whatever went before."""

# ruff: noqa: NPY002 - the old generator of numpy is what is tested

import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike.data.images import ImageBatches
from lookalike.data.sampling import UniformBatches
from lookalike.data.seeding import SeededBatches, SeededDraws, SeededIds, seed_of, seeded
from lookalike.training.experiment import Experiment
from lookalike.training.start import measured_start


def drawn_by_all(images: Sequence[Tensor]) -> Tensor:
    """Three random numbers for each image: of torch, numpy and Python."""
    return torch.tensor([[torch.rand(()), np.random.rand(), random.random()] for _ in images])


def draw(epoch: int, seed: int = 0) -> list[SeededIds]:
    sampler = SeededDraws(UniformBatches(np.arange(10), np.arange(10), 4), seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_batch_has_the_same_views_whenever_it_is_read() -> None:
    batches = SeededBatches(ImageBatches(torch.zeros(10, 1), np.arange(10), drawn_by_all))  # type: ignore[arg-type]
    in_order = [batches[each].images for each in draw(0)]
    backwards = [batches[each].images for each in reversed(draw(0))][::-1]
    for one, again in zip(in_order, backwards, strict=True):
        assert torch.equal(one, again)
    views = torch.cat([batches[each].images for each in [*draw(0), *draw(1), *draw(0, seed=1)]])
    assert len(views.unique()) == views.numel() == 3 * 3 * 4 * 3


def test_reading_leaves_the_generators_as_they_were() -> None:
    def state() -> list[object]:
        with seeded(7):
            drawn_by_all(list(torch.zeros(3)))
        return [torch.rand(()).item(), np.random.rand(), random.random()]

    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    first = [torch.rand(()).item(), np.random.rand(), random.random()]
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    assert state() == first


def test_ranks_draw_what_one_process_would(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = draw(3)
    for rank in range(3):
        for module in ("sampling", "seeding"):
            monkeypatch.setattr(f"lookalike.data.{module}.world_size", lambda: 3)
            monkeypatch.setattr(f"lookalike.data.{module}.rank", lambda rank=rank: rank)
        assert draw(3)[0].seed == alone[rank].seed


def test_seeds_of_neighbours_differ() -> None:
    seeds = {seed_of(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.fixture
def weights(compose: Any, tiny: tuple[str, ...], tmp_path: Path) -> Any:
    """weights("loss=triplet") -> what two epochs train with dropout, one tensor."""
    runs = count()

    def trained(*overrides: str, measured_first: bool = False, resume: str | None = None) -> Tensor:
        config = compose(
            "train", *tiny, "backbone=tiny_batch_norm", "head=mlp", "head.dropout=0.3",
            "trainer.max_epochs=2", "data.sampler.batches_per_epoch=5",
            f"data.cache_folder={tmp_path}", *overrides,
        )  # fmt: skip
        experiment = Experiment(config, tmp_path / f"run{next(runs)}")
        if measured_first:
            measured_start(experiment, "epoch_0/")
        experiment.fit(resume)
        return torch.cat([part.detach().flatten() for part in experiment.learner.parameters()])

    return trained


@pytest.mark.slow
def test_neither_measuring_first_nor_workers_change_the_training(weights: Any) -> None:
    plain = weights()
    assert torch.equal(weights(), plain)
    assert torch.equal(weights(measured_first=True), plain)
    assert torch.equal(weights("data.num_workers=2"), plain)
    assert torch.equal(weights("data.num_workers=1", measured_first=True), plain)
    assert not torch.equal(weights("seed=1"), plain)


@pytest.mark.slow
def test_neither_cold_nor_warm_caches_change_the_training(weights: Any) -> None:
    disk = weights("data.cache=disk")
    assert torch.equal(weights("data.cache=disk", measured_first=True), disk)
    frozen = ("freeze=all", "data.cache=features", "data.feature_views=2")
    cold = weights(*frozen)
    assert torch.equal(weights(*frozen), cold)
    assert torch.equal(weights(*frozen, measured_first=True), cold)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_trains_the_same_weights(weights: Any, tmp_path: Path, workers: int) -> None:
    """Cut off after the first of two epochs, and gone on with in another folder."""
    same = ("scheduler=constant", f"data.num_workers={workers}")
    whole = weights(*same)
    weights(*same, "trainer.max_epochs=1")
    assert torch.equal(weights(*same, resume=str(tmp_path / "run1/checkpoints/last.ckpt")), whole)


def test_a_miner_that_draws_is_seeded_too(weights: Any) -> None:
    drawing = ("loss=margin", "miner=distance_weighted")
    plain = weights(*drawing)
    assert torch.equal(weights(*drawing, measured_first=True), plain)
