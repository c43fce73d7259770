"""Which records make a batch: samplers of whole batches, seeded per epoch, aware of their rank.

Each yields lists of record ids. Lightning calls `set_epoch` on them; under distributed training
every rank draws the same epoch from the same seed and keeps its own share of the batches.
"""

import logging
from collections.abc import Iterator

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lookalike.errors import InputError

log = logging.getLogger(__name__)


class ClassBatches(Sampler[list[int]]):
    """Batches of P classes x K images, P = batch_size / K.

    An epoch is one pass: the images of every class are shuffled and cut into groups of K (the
    last group of a class is filled up with other images of it), and each batch takes groups of P
    different classes. Classes with the most groups left are the likeliest, and those that could
    otherwise not be finished are certain, so that every image is used in the fewest batches. At
    the end of an epoch, a batch that would lack classes draws further groups.

    Where there are fewer than P classes, all of them make up every batch, with the largest K that
    `batch_size` allows.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: (N,) int64, their labels.
        batch_size: images a batch on each rank.
        images_per_class: K.
        batches_per_epoch: null for one pass; otherwise so many batches (on each rank).
        seed: of the order, together with the epoch.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        images_per_class: int = 4,
        batches_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        if batch_size % images_per_class:
            raise InputError(
                f"a batch of {batch_size} can't be made of {images_per_class} images a class. Set "
                f"data.batch_size={max(1, batch_size // images_per_class) * images_per_class}, or "
                f"data.sampler.images_per_class to a divisor of {batch_size}."
            )
        self.ids_of_class = [ids[labels == label] for label in np.unique(labels)]
        self.classes_per_batch = batch_size // images_per_class
        self.images_per_class = images_per_class
        if len(self.ids_of_class) < self.classes_per_batch:
            self.classes_per_batch = len(self.ids_of_class)
            self.images_per_class = batch_size // self.classes_per_batch
            log.warning(
                "%d training classes only: batches of %d classes x %d images",
                len(self.ids_of_class),
                self.classes_per_batch,
                self.images_per_class,
            )
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        return self.batches_per_epoch or -(-self._batches_in_a_pass() // _world_size())

    def __iter__(self) -> Iterator[list[int]]:
        total = len(self) * _world_size()
        yield from _own_share(self._batches(total))

    def _batches(self, total: int) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = 0
        while drawn < total:
            for batch in self._pass(rng, min(total - drawn, self._batches_in_a_pass())):
                yield batch
                drawn += 1

    def _batches_in_a_pass(self) -> int:
        groups = self._groups_per_class()
        return max(-(-int(groups.sum()) // self.classes_per_batch), int(groups.max()))

    def _groups_per_class(self) -> NDArray[np.int64]:
        sizes = np.array([len(ids) for ids in self.ids_of_class])
        return -(-sizes // self.images_per_class)

    def _pass(self, rng: np.random.Generator, batches: int) -> Iterator[list[int]]:
        """The first `batches` batches of a pass over every image."""
        queues = [self._groups(rng, ids) for ids in self.ids_of_class]
        remaining = self._groups_per_class()
        for left in range(self._batches_in_a_pass(), self._batches_in_a_pass() - batches, -1):
            chosen = _choose_classes(rng, remaining, left, self.classes_per_batch)
            yield [int(row) for label in chosen for row in self._next_group(rng, queues, label)]
            remaining[chosen] = np.maximum(remaining[chosen] - 1, 0)

    def _next_group(
        self, rng: np.random.Generator, queues: list[list[NDArray[np.int64]]], label: int
    ) -> NDArray[np.int64]:
        if not queues[label]:
            queues[label] = self._groups(rng, self.ids_of_class[label])
        return queues[label].pop()

    def _groups(self, rng: np.random.Generator, ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """All ids of a class, shuffled, in groups of K; the last is filled up from the front."""
        order = rng.permutation(ids)
        return list(
            np.resize(order, len(ids) + -len(ids) % self.images_per_class).reshape(
                -1, self.images_per_class
            )
        )


class UniformBatches(Sampler[list[int]]):
    """Shuffled batches, whatever the class; the last one is filled up from the front.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: not used; every sampler is given them.
        batch_size: images a batch on each rank.
        batches_per_epoch: null for one pass; otherwise so many batches (on each rank).
        seed: of the order, together with the epoch.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        batches_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        self.ids = ids
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        return self.batches_per_epoch or -(-len(self.ids) // (self.batch_size * _world_size()))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        needed = len(self) * _world_size() * self.batch_size
        passes = -(-needed // len(self.ids))
        order = np.concatenate([rng.permutation(self.ids) for _ in range(passes)])[:needed]
        yield from _own_share(map(_as_list, order.reshape(-1, self.batch_size)))


class TwoViewBatches(Sampler[list[int]]):
    """Batches of B/2 shuffled images, all named twice: the second half are other random views of
    the first, in the same order.

    Args:
        ids, labels, batches_per_epoch, seed: of UniformBatches.
        batch_size: views a batch on each rank, even.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        batches_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        if batch_size % 2:
            raise InputError(
                f"a batch of {batch_size} can't hold every image twice. Set "
                f"data.batch_size={batch_size + 1}."
            )
        self.once = UniformBatches(ids, labels, batch_size // 2, batches_per_epoch, seed)

    def set_epoch(self, epoch: int) -> None:
        self.once.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        return len(self.once)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.once:
            yield batch + batch


class InOrder(Sampler[list[int]]):
    """Every record once, in order, for measuring; ranks take turns, so nothing is padded."""

    def __init__(self, ids: NDArray[np.int64], batch_size: int) -> None:
        self.ids = ids
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._own_ids()) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        own = self._own_ids()
        for start in range(0, len(own), self.batch_size):
            yield _as_list(own[start : start + self.batch_size])

    def _own_ids(self) -> NDArray[np.int64]:
        return self.ids[_rank() :: _world_size()]


def _choose_classes(
    rng: np.random.Generator, remaining: NDArray[np.int64], batches_left: int, count: int
) -> NDArray[np.int64]:
    """`count` different classes, first those whose groups would not fit the batches left after.

    With at most count x batches_left groups in all and at most batches_left of one class, this
    holds again after the batch is taken, so that a pass always finishes.
    """
    with np.errstate(divide="ignore"):
        # Gumbel keys: the top ones are a sample without replacement, weighted by groups left
        keys = np.log(remaining) + rng.gumbel(size=len(remaining))
    keys[remaining >= batches_left] = np.inf
    finished = np.flatnonzero(remaining == 0)
    order = np.concatenate(
        [np.argsort(-keys)[: len(keys) - len(finished)], rng.permutation(finished)]
    )
    return order[:count]


def _own_share(batches: Iterator[list[int]]) -> Iterator[list[int]]:
    for number, batch in enumerate(batches):
        if number % _world_size() == _rank():
            yield batch


def _as_list(ids: NDArray[np.int64]) -> list[int]:
    return [int(row) for row in ids]


def _world_size() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
