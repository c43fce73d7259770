"""Which classes a batch takes, how often, and what samplers do unless they are told otherwise."""

import logging
from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from lookalike.data.sampling import (
    ClassBatches,
    InOrder,
    TwoViewBatches,
    UniformBatches,
    _choose_classes,
)
from lookalike.errors import InputError

SIZES = [1, 2, 3, 5, 8, 13, 21, 34, 4]
LABELS = np.repeat(np.arange(9), SIZES)
IDS = np.arange(100, 100 + len(LABELS))
MANY = 6000


def shares(remaining: list[int], left: int, count: int) -> dict[tuple[int, ...], float]:
    """How often each selection of classes is drawn."""
    rng = np.random.default_rng(0)
    drawn = Counter(
        tuple(_choose_classes(rng, np.array(remaining), left, count).tolist()) for _ in range(MANY)
    )
    return {chosen: times / MANY for chosen, times in drawn.items()}


def test_classes_with_more_groups_left_are_drawn_more_often() -> None:
    """As from an urn with a ball for each group, whose class's balls all leave with one."""
    weights = [6, 3, 1]
    found = shares(weights, left=100, count=2)
    assert len(found) == 6
    for first, second in permutations(range(3), 2):
        expected = weights[first] / 10 * weights[second] / (10 - weights[first])
        assert found[first, second] == pytest.approx(expected, abs=0.025)


def test_a_class_that_could_not_be_finished_otherwise_is_always_drawn() -> None:
    found = shares([5, 4, 9, 1], left=5, count=2)
    assert {frozenset(chosen) for chosen in found} == {frozenset({0, 2})}
    assert any(1 in chosen for chosen in shares([4, 4, 4, 1], left=5, count=2))


def test_finished_classes_fill_up_at_random() -> None:
    found = shares([0, 2, 0, 0], left=3, count=2)
    assert set(found) == {(1, 0), (1, 2), (1, 3)}
    assert all(share == pytest.approx(1 / 3, abs=0.025) for share in found.values())


@pytest.mark.parametrize(("batch_size", "per_class"), [(16, 4), (8, 4), (18, 2), (36, 4)])
def test_a_pass_has_the_smallest_number_of_batches(batch_size: int, per_class: int) -> None:
    """Either all groups of all classes fill them, or the groups of the largest class need them."""
    groups = [len(range(0, size, per_class)) for size in SIZES]
    classes = batch_size // per_class
    batches = 0
    while batches * classes < sum(groups) or batches < max(groups):
        batches += 1
    sampler = ClassBatches(IDS, LABELS, batch_size, per_class)
    assert len(sampler) == batches == len(list(sampler))


def test_as_many_classes_as_are_wanted_are_nothing_to_warn_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        ClassBatches(IDS, LABELS, 36, 4)
        assert caplog.messages == []
        ClassBatches(IDS, LABELS, 40, 4)
    assert caplog.messages == ["9 training classes only: batches of 9 classes x 4 images"]


@pytest.mark.parametrize(("batch_size", "advised"), [(30, 28), (3, 4), (5, 4)])
def test_a_batch_size_that_fits_is_advised(batch_size: int, advised: int) -> None:
    with pytest.raises(InputError) as error:
        ClassBatches(IDS, LABELS, batch_size, 4)
    assert str(error.value) == (
        f"a batch of {batch_size} can't be made of 4 images a class. Set "
        f"data.batch_size={advised}, or images_per_class to a divisor of {batch_size}."
    )
    with pytest.raises(InputError) as error:
        TwoViewBatches(IDS, LABELS, 7)
    assert str(error.value) == "a batch of 7 can't hold every image twice. Set data.batch_size=8."


@pytest.mark.parametrize("make", [ClassBatches, UniformBatches, TwoViewBatches])
def test_the_first_epoch_of_seed_0_with_4_images_a_class_is_the_default(make: Any) -> None:
    named = {"images_per_class": 4} if make is ClassBatches else {}
    explicit = make(IDS, LABELS, 16, batches_per_epoch=None, seed=0, shared=True, **named)
    explicit.set_epoch(0)
    found = list(make(IDS, LABELS, 16))
    assert found == list(explicit)
    assert all(type(row) is int for batch in found for row in batch)


def test_every_process_may_read_all_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.data.sampling.world_size", lambda: 3)
    monkeypatch.setattr("lookalike.data.sampling.rank", lambda: 1)
    sampler = InOrder(IDS[:10], 4, shared=False)
    assert len(sampler) == 3
    assert list(sampler) == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]
