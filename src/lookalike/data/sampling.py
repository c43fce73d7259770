"""Which records form a batch: samplers of whole batches, seeded per epoch, aware of their rank.

Each yields lists of record ids. Lightning calls their `set_epoch`. Under distributed training,
every rank draws the same batches from the same seed and yields its own share of them, or all
(`shared=False`), of which it then takes its part: see `sharing.py`.
"""

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lookalike.distributed import rank, world_size
from lookalike.errors import InputError

log = logging.getLogger(__name__)


class ClassBatches(Sampler[list[int]]):
    """Batches of P classes x K images, P = batch_size / K.

    An epoch is one pass over all images. The images of every class are shuffled and cut into
    groups of K; the last group of a class is filled up with other images of it. Each batch takes
    one group from each of P different classes. Classes with more groups left are drawn with higher
    probability, and a class that could not be finished otherwise is always taken. So every image
    is used, in the smallest possible number of batches. If a batch at the end of an epoch lacks
    classes, further groups are drawn.

    With fewer than P classes, each batch holds all of them, and K is as large as `batch_size`
    allows.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: (N,) int64, their labels.
        batch_size: images a batch on each rank.
        images_per_class: K.
        batches_per_epoch: batches on each rank; None for one pass.
        seed: of the order, together with the epoch.
        shared: whether ranks take turns with the batches; otherwise every rank yields all.

    Raises:
        InputError: the batch size is no multiple of K.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        images_per_class: int = 4,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        shared: bool = True,
    ) -> None:
        if batch_size % images_per_class:
            raise InputError(
                f"a batch of {batch_size} can't be made of {images_per_class} images a class. Set "
                f"data.batch_size={max(1, batch_size // images_per_class) * images_per_class}, or "
                f"images_per_class to a divisor of {batch_size}."
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
        self.shared = shared
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches are drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        return self.batches_per_epoch or -(-self._batches_in_a_pass() // _turns(self.shared))

    def __iter__(self) -> Iterator[list[int]]:
        total = len(self) * _turns(self.shared)
        yield from _own_turns(self._batches(total), self.shared)

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
        """The ids of a class, shuffled, in groups of K; the last repeats some of the first."""
        order = rng.permutation(ids)
        return list(
            np.resize(order, len(ids) + -len(ids) % self.images_per_class).reshape(
                -1, self.images_per_class
            )
        )


class UniformBatches(Sampler[list[int]]):
    """Shuffled batches of any classes; the last one is filled up with images of a second pass.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: not used; they are an argument of every sampler.
        batch_size: images a batch on each rank.
        batches_per_epoch: batches on each rank; None for one pass.
        seed: of the order, together with the epoch.
        shared: whether ranks take turns with the batches; otherwise every rank yields all.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        shared: bool = True,
    ) -> None:
        self.ids = ids
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.shared = shared
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches are drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        images = self.batch_size * _turns(self.shared)
        return self.batches_per_epoch or -(-len(self.ids) // images)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        needed = len(self) * _turns(self.shared) * self.batch_size
        passes = -(-needed // len(self.ids))
        order = np.concatenate([rng.permutation(self.ids) for _ in range(passes)])[:needed]
        yield from _own_turns(map(_as_list, order.reshape(-1, self.batch_size)), self.shared)


class TwoViewBatches(Sampler[list[int]]):
    """Batches of B/2 shuffled images, each twice: the second half repeats the first.

    With a random transform, the halves are two different views of the same images.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: not used; they are an argument of every sampler.
        batch_size: B, views a batch on each rank, an even number.
        batches_per_epoch: batches on each rank; None for one pass.
        seed: of the order, together with the epoch.
        shared: whether ranks take turns with the batches; otherwise every rank yields all.

    Raises:
        InputError: the batch size is odd.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        shared: bool = True,
    ) -> None:
        if batch_size % 2:
            raise InputError(
                f"a batch of {batch_size} can't hold every image twice. Set "
                f"data.batch_size={batch_size + 1}."
            )
        self.half_batches = UniformBatches(
            ids, labels, batch_size // 2, batches_per_epoch, seed, shared
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches are drawn next."""
        self.half_batches.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        return len(self.half_batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.half_batches:
            yield batch + batch


class InOrder(Sampler[list[int]]):
    """Every record once, in order, for measuring.

    Args:
        ids: (N,) int64, the records.
        batch_size: images a batch on each rank.
        shared: whether ranks take turns, so that each record is read by one of them; otherwise
            every rank reads all.
    """

    def __init__(self, ids: NDArray[np.int64], batch_size: int, shared: bool = True) -> None:
        self.ids = ids
        self.batch_size = batch_size
        self.shared = shared

    def __len__(self) -> int:
        return -(-len(self._own_ids()) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        own = self._own_ids()
        for start in range(0, len(own), self.batch_size):
            yield _as_list(own[start : start + self.batch_size])

    def _own_ids(self) -> NDArray[np.int64]:
        """A rank for which there is none reads the first one, too: all must take part."""
        own = self.ids[rank() :: world_size()] if self.shared else self.ids
        return own if len(own) else self.ids[:1]


def _choose_classes(
    rng: np.random.Generator, remaining: NDArray[np.int64], batches_left: int, count: int
) -> NDArray[np.int64]:
    """`count` different classes for the next batch, drawn at random.

    First come classes that have a group for every batch that is left. If at the start there are at
    most count x batches_left groups in all, and at most batches_left of each class, this stays
    true after every batch. So a pass always finishes.
    """
    with np.errstate(divide="ignore"):
        # Gumbel keys: the largest are a sample without replacement, weighted by the groups left
        keys = np.log(remaining) + rng.gumbel(size=len(remaining))
    keys[remaining >= batches_left] = np.inf
    finished = np.flatnonzero(remaining == 0)
    order = np.concatenate(
        [np.argsort(-keys)[: len(keys) - len(finished)], rng.permutation(finished)]
    )
    return order[:count]


def _turns(shared: bool) -> int:
    """How many ranks take turns with the batches."""
    return world_size() if shared else 1


def _own_turns(batches: Iterator[list[int]], shared: bool) -> Iterator[list[int]]:
    for number, batch in enumerate(batches):
        if not shared or number % world_size() == rank():
            yield batch


def _as_list(ids: NDArray[np.int64]) -> list[int]:
    return [int(row) for row in ids]
