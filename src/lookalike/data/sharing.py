"""One batch of all processes: drawn as by one process, and shared among them."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lookalike.distributed import rank, world_size
from lookalike.errors import InputError

Ids = NDArray[np.int64]


def drawn_together(
    make_sampler: Callable[..., Sampler[list[int]]], ids: Ids, labels: Ids, batch_size: int
) -> "PartOfBatches":
    """This rank's part of batches that are drawn as by one process.

    Args:
        make_sampler: ids (N,), labels (N,), batch size, shared=False -> a sampler that yields the
            same batches on every rank.
        ids: (N,) of the records to draw from.
        labels: (N,).
        batch_size: images a batch of all ranks together.

    Raises:
        InputError: the sampler has no argument `shared`.
    """
    try:
        return PartOfBatches(make_sampler(ids, labels, batch_size, shared=False))
    except TypeError as error:
        raise InputError(
            "loss_scope=global needs a sampler that can yield the same batches in every process, "
            f"by an argument `shared` as ClassBatches has it: {error}. Set loss_scope=local."
        ) from error


class PartOfBatches(Sampler[list[int]]):
    """This rank's part of every batch; the parts of all ranks, one after the other, are the batch.

    Args:
        sampler: yields the same batches on every rank.
    """

    def __init__(self, sampler: Sampler[list[int]]) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches are drawn next."""
        self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # our samplers have it

    def __len__(self) -> int:
        """Batches an epoch, the same on each rank."""
        return len(self.sampler)  # type: ignore[arg-type]  # torch's class only leaves it out

    def __iter__(self) -> Iterator[list[int]]:
        own, count = rank(), world_size()
        for batch in self.sampler:
            if len(batch) < count:
                raise InputError(
                    f"{count} processes can't share a batch of {len(batch)} images. Raise "
                    "data.batch_size, or set loss_scope=local."
                )
            yield batch[len(batch) * own // count : len(batch) * (own + 1) // count]
