"""Several processes that train together: who they are, and what they exchange.

Without distributed training there is one process, and nothing is exchanged.
"""

from typing import Any

import torch.distributed
from torch import Tensor, nn

ROWS = 2**16  # exchanged at once: a GPU need not hold the embeddings of all ranks


def world_size() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gather(own: Tensor) -> list[Tensor]:
    """The rows of all ranks, in order of rank; every rank must call this.

    Args:
        own: (N, ...) of this rank, on a device where ranks exchange; N may differ.
    """
    if not torch.distributed.is_initialized():
        return [own]
    counts = _counts(own)
    blocks = [
        _gather_block(own[start : start + ROWS], min(ROWS, max(counts) - start))
        for start in range(0, max(counts), ROWS)
    ]
    if not blocks:
        return [own] * len(counts)
    of_ranks = zip(zip(*blocks, strict=True), counts, strict=True)
    return [torch.cat(parts)[:count] for parts, count in of_ranks]


def gather_with_gradients(own: Tensor) -> Tensor:
    """The rows of all ranks as one tensor, in order of rank; every rank must call this.

    If every rank computes the same loss of it, then the mean over all ranks of the gradient of any
    parameter, whether before or behind this call, is the gradient of that loss. This is what DDP
    takes.

    Args:
        own: (N, ...) of this rank; N may differ from rank to rank.
    """
    return _GatherRows.apply(own)  # type: ignore[no-any-return]  # torch gives it no type


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = gather(own.detach())
        first = sum(len(part) for part in parts[: rank()])
        ctx.rows = slice(first, first + len(own))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # no other rank has a gradient for the images of this one, and DDP takes the mean over ranks
        return gradients[0][ctx.rows] * world_size()


def _counts(own: Tensor) -> list[int]:
    count = torch.tensor([len(own)], device=own.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    torch.distributed.all_gather(counts, count)
    return torch.cat(counts).tolist()


def _gather_block(own: Tensor, count: int) -> list[Tensor]:
    """`count` rows of every rank; behind its own are any values."""
    padded = own.new_zeros((count, *own.shape[1:]))
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    torch.distributed.all_gather(parts, padded)
    return parts


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
