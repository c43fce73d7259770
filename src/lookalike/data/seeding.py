"""Randomness by number: what is drawn depends on the seed and the batch, not on who draws it.

Without this, random views would depend on how many processes read images, on whether anything was
measured before the training, and on where a training was resumed.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from lookalike.data.images import Batch, ImageBatches
from lookalike.distributed import rank, world_size


class SeededIds(NamedTuple):
    """A batch that is to be drawn: record ids, and the seed of their random views."""

    ids: list[int]
    seed: int


class SeededDraws(Sampler[SeededIds]):
    """The batches of a sampler, each with a seed of its own.

    The seed is a function of the seed given here, the epoch and the number of the batch in it,
    counted over all ranks if they share the batches.

    Args:
        sampler: yields lists of ids; if it has `set_epoch`, that is called, too.
        seed: of all random views.
        epoch: whose batches are drawn, until `set_epoch` is called.
        shared: whether the sampler yields this rank's share of the batches, and not all.
        skipped: batches of the epoch given here that are left out, because they were trained on.
    """

    def __init__(
        self,
        sampler: Sampler[list[int]],
        seed: int,
        epoch: int = 0,
        shared: bool = True,
        skipped: int = 0,
    ) -> None:
        self.sampler = sampler
        self.seed = seed
        self.shared = shared
        self.skipped = {epoch: skipped}
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches are drawn next."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # it was asked for

    def __len__(self) -> int:
        """Batches an epoch on each rank, those that are left out, too."""
        return len(self.sampler)  # type: ignore[arg-type]  # ours and Lightning's know their length

    def __iter__(self) -> Iterator[SeededIds]:
        first = self.skipped.get(self.epoch, 0)
        for number, ids in enumerate(islice(self.sampler, first, None), first):
            over_all_ranks = number * world_size() + rank() if self.shared else number
            yield SeededIds(ids, seed_of(self.seed, self.epoch, over_all_ranks))


class SeededBatches(Dataset[Batch]):
    """A data set of whole batches, indexed with `SeededIds`.

    Args:
        batches: indexed with a list of ids; its random views draw from the generators of torch,
            numpy or Python.
    """

    def __init__(self, batches: ImageBatches) -> None:
        self.batches = batches

    def __getitem__(self, draw: SeededIds) -> Batch:
        with seeded(draw.seed):
            return self.batches[draw.ids]


def seed_of(*numbers: int) -> int:
    """One seed in [0, 2^32) from several numbers >= 0, such as a seed, an epoch and a batch.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch, on all devices.

    Args:
        seed: in [0, 2^32).
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what others draw from
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context in which the CPU's generators begin at a seed; afterwards they go on as before.

    Args:
        seed: in [0, 2^32).
    """
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - as above
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - as above
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002 - as above
        torch.set_rng_state(kept[2])
