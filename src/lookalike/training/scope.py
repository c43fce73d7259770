"""Which images a loss compares where several processes train together."""

import logging
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lookalike.data.datamodule import RetrievalData
from lookalike.data.seeding import seed_everything, seed_of
from lookalike.distributed import gather, gather_with_gradients, world_size
from lookalike.errors import InputError
from lookalike.losses.cross_batch_memory import CrossBatchMemory

log = logging.getLogger(__name__)

Scope = Literal["global", "local"]


class LossScope:
    """Whether the loss is of the batches of all processes together, or of each one's alone.

    A global loss is the one that a single process would have for the whole batch, with pairs,
    proxies, a memory or two views, and so are its gradients. Local losses are averaged; their pairs
    lie within one process. In a single process both are the same.

    Args:
        name: "global" or "local".
        seed: of what a miner or a loss draws of the whole batch, with the epoch and the batch.

    Raises:
        InputError: there is no such scope.
    """

    def __init__(self, name: Scope = "global", seed: int = 0) -> None:
        if name not in get_args(Scope):
            raise InputError(f"loss_scope={name} is not known; it is global or local.")
        self.name = name
        self.seed = seed

    def prepare(self, data: RetrievalData, loss: nn.Module, processes: int) -> None:
        """Let batches be drawn as the loss needs them; say so if it will lack something.

        Args:
            data: which draws the batches.
            loss: which is trained.
            processes: that train together.

        Raises:
            InputError: the sampler can't draw one batch for several processes.
        """
        if processes == 1:
            return
        if self.name == "global":
            data.draw_together(processes)
        elif any(isinstance(part, CrossBatchMemory) for part in loss.modules()):
            log.warning(
                "loss_scope=local: the cross-batch memory has only what the first of %d processes "
                "saw. loss_scope=global fills it from all.",
                processes,
            )

    def compared(
        self, embeddings: Tensor, labels: Tensor, epoch: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """What the loss compares: (B, D) and (B,) of this process, or of all in order of rank.

        Miners and losses then draw the same in every process, and what a single one would draw.

        Args:
            embeddings: (B, D), with gradients.
            labels: (B,) int64.
            epoch: from 0.
            batch: its number in the epoch.
        """
        if self.name == "local" or world_size() == 1:
            return embeddings, labels
        together = gather_with_gradients(embeddings), torch.cat(gather(labels))
        seed_everything(seed_of(self.seed, epoch, batch))
        return together

    def description(self, processes: int) -> str:
        """For the log, empty with one process.

        >>> LossScope("local").description(2)
        ', 2 processes with a loss of their own (loss_scope=local)'
        """
        if processes == 1:
            return ""
        which = {"global": "one loss of all their images", "local": "a loss of their own"}
        return f", {processes} processes with {which[self.name]} (loss_scope={self.name})"
