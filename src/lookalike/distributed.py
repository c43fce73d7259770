"""Several processes that train together: who they are, and what they exchange.

Without distributed training there is one process, and nothing is exchanged.
"""

from typing import Any, TypeVar

import torch.distributed
from torch import nn

T = TypeVar("T")


def world_size() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gather(value: T) -> list[T]:
    """The values of all ranks, in order of rank; every rank must call this."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def highest(value: int, device: torch.device) -> int:
    """The highest value of all ranks; every rank must call this.

    Args:
        value: of this rank.
        device: on which it is exchanged.
    """
    if not torch.distributed.is_initialized():
        return value
    exchanged = torch.tensor(value, device=device)
    torch.distributed.all_reduce(exchanged, torch.distributed.ReduceOp.MAX)
    return int(exchanged)


def make_buffers_equal(module: nn.Module) -> None:
    """Give every rank the buffers of rank 0, whose network is saved; every rank must call this.

    Batch norm's running statistics differ from rank to rank after a training step, as each has
    seen its own batch.
    """
    if torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)
