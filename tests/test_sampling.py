"""Samplers: what a batch holds, that nothing is left out, seeds and ranks."""

import logging
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest

from lookalike.data import sampling, sharing
from lookalike.data.sampling import ClassBatches, InOrder, TwoViewBatches, UniformBatches
from lookalike.data.sharing import PartOfBatches, drawn_together
from lookalike.errors import InputError

UNBALANCED = np.repeat(np.arange(9), [1, 2, 3, 5, 8, 13, 21, 34, 4])
IDS = np.arange(100, 100 + len(UNBALANCED))
LABEL_OF = dict(zip(IDS.tolist(), UNBALANCED.tolist(), strict=True))


def batches(
    sampler: ClassBatches | PartOfBatches | TwoViewBatches | UniformBatches, epoch: int = 0
) -> list[list[int]]:
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


@pytest.mark.parametrize("per_class", [1, 2, 4])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_p_classes_of_k_images_and_every_image_used(per_class: int, epoch: int) -> None:
    sampler = ClassBatches(
        IDS, UNBALANCED, batch_size=20 if per_class < 4 else 16, images_per_class=per_class
    )
    if per_class == 1:  # 20 classes wanted, 9 there
        assert sampler.classes_per_batch == 9
    for batch in batches(sampler, epoch):
        counts = Counter(LABEL_OF[row] for row in batch)
        assert set(counts.values()) == {sampler.images_per_class}
        assert len(counts) == sampler.classes_per_batch
    assert {row for batch in batches(sampler, epoch) for row in batch} == set(IDS.tolist())


def test_an_epoch_is_one_pass() -> None:
    labels = np.repeat(np.arange(40), 8)
    found = batches(ClassBatches(np.arange(320), labels, batch_size=32, images_per_class=4))
    assert len(found) == 10
    assert Counter(row for batch in found for row in batch) == Counter(range(320))


def test_a_group_repeats_an_image_only_if_its_class_is_too_small() -> None:
    for batch in batches(ClassBatches(IDS, UNBALANCED, batch_size=16, images_per_class=4)):
        for group in np.reshape(batch, (4, 4)):
            size = int((LABEL_OF[int(group[0])] == UNBALANCED).sum())
            assert len(set(group.tolist())) == min(4, size)


def test_seeds_and_epochs_change_the_order_and_nothing_else_does() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return batches(ClassBatches(IDS, UNBALANCED, 8, 2, seed=seed), epoch)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("count", [1, 7, 60])
def test_batches_per_epoch(count: int) -> None:
    for sampler in (
        ClassBatches(IDS, UNBALANCED, 8, 2, batches_per_epoch=count),
        UniformBatches(IDS, UNBALANCED, 8, batches_per_epoch=count),
        TwoViewBatches(IDS, UNBALANCED, 8, batches_per_epoch=count),
    ):
        assert [len(batch) for batch in batches(sampler)] == [8] * count


@pytest.mark.parametrize("make", [ClassBatches, UniformBatches, TwoViewBatches])
def test_ranks_share_an_epoch(make: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        shares.append(batches(make(IDS, UNBALANCED, 8)))
    assert len({len(share) for share in shares}) == 1
    used = [row for share in shares for batch in share for row in batch]
    assert set(used) == set(IDS.tolist())
    assert shares[0] != shares[1]


@pytest.mark.parametrize(("make", "images"), [(UniformBatches, 8), (TwoViewBatches, 4)])
def test_an_epoch_of_several_ranks_is_one_pass(
    make: type, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one for each rank, unless every rank is to yield all batches."""
    together = -(-len(IDS) // (3 * images))  # batches on each rank
    alone = batches(make(IDS, UNBALANCED, 8))
    monkeypatch.setattr(sampling, "world_size", lambda: 3)
    assert len(make(IDS, UNBALANCED, 8)) == together
    assert len(make(IDS, UNBALANCED, 8, shared=True)) == together
    assert batches(make(IDS, UNBALANCED, 8, shared=False)) == alone


def test_batches_of_classes_are_shared_by_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = len(ClassBatches(IDS, UNBALANCED, 8))
    monkeypatch.setattr(sampling, "world_size", lambda: 3)
    assert len(ClassBatches(IDS, UNBALANCED, 8)) == -(-alone // 3) < alone
    assert len(ClassBatches(IDS, UNBALANCED, 8, shared=False)) == alone


def test_uniform_batches_use_everything_once_but_for_the_filling() -> None:
    found = batches(UniformBatches(IDS, UNBALANCED, batch_size=8))
    used = Counter(row for batch in found for row in batch)
    assert set(used) == set(IDS.tolist())
    assert sum(used.values()) - len(IDS) == -len(IDS) % 8


@pytest.mark.parametrize("world", [1, 2, 4])
def test_in_order_gives_each_record_to_one_rank(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "world_size", lambda: world)
    seen: list[int] = []
    for rank in range(world):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        sampler = InOrder(IDS, 8)
        parts = list(sampler)
        assert len(parts) == len(sampler)
        seen += [row for part in parts for row in part]
    assert sorted(seen) == IDS.tolist()


def test_a_batch_that_p_times_k_does_not_give() -> None:
    with pytest.raises(InputError, match=r"data.batch_size=28, or images_per_class"):
        ClassBatches(IDS, UNBALANCED, batch_size=30, images_per_class=4)


def test_fewer_classes_than_p_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sampler = ClassBatches(IDS, UNBALANCED, batch_size=64, images_per_class=4)
    assert "batches of 9 classes x 7 images" in caplog.text
    assert {len(batch) for batch in sampler} == {63}


def test_two_views_are_the_same_images_twice_and_an_epoch_is_one_pass() -> None:
    labels = np.repeat(np.arange(10), 4)
    sampler = TwoViewBatches(np.arange(40), labels, batch_size=16)
    found = batches(sampler)
    assert len(found) == 5
    assert all(batch[:8] == batch[8:] and len(set(batch)) == 8 for batch in found)
    assert {row for batch in found for row in batch} == set(range(40))
    assert batches(sampler, epoch=1) != found == batches(sampler, epoch=0)


def test_an_odd_batch_of_two_views() -> None:
    with pytest.raises(InputError, match="batch_size=8"):
        TwoViewBatches(IDS, UNBALANCED, batch_size=7)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("make", [ClassBatches, UniformBatches, TwoViewBatches])
def test_parts_of_a_batch_are_together_that_of_one_process(
    make: type, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = batches(make(IDS, UNBALANCED, 8 * world), 3)
    monkeypatch.setattr(sampling, "world_size", lambda: world)
    monkeypatch.setattr(sharing, "world_size", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(sharing, "rank", lambda rank=rank: rank)
        share = drawn_together(make, IDS, UNBALANCED, 8 * world)
        shares.append(batches(share, 3))
        assert len(share) == len(alone)
    assert [[*chain(*parts)] for parts in zip(*shares, strict=True)] == alone


def test_a_batch_that_several_processes_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "world_size", lambda: 4)
    with pytest.raises(InputError, match=r"Raise\s+data.batch_size"):
        list(drawn_together(UniformBatches, IDS, UNBALANCED, 3))


def test_a_sampler_that_cannot_be_shared() -> None:
    def own(ids: Any, labels: Any, batch_size: int) -> Any:
        return []

    with pytest.raises(InputError, match="Set loss_scope=local"):
        drawn_together(own, IDS, UNBALANCED, 3)


def test_every_rank_measures_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "world_size", lambda: 3)
    monkeypatch.setattr(sampling, "rank", lambda: 2)
    assert list(InOrder(IDS[:2], 8)) == [[int(IDS[0])]]
