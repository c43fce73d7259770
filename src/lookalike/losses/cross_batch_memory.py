"""Cross-batch memory that a resumed training finds as it was. Wang et al., CVPR 2020."""

import torch
from pytorch_metric_learning import losses
from torch import Tensor

from lookalike.errors import InputError


class CrossBatchMemory(losses.CrossBatchMemory):
    """pytorch-metric-learning's, which saves the memory but not how far it is filled.

    Arguments and values are pytorch-metric-learning's.
    """

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: object = None,
        enqueue_mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 -> scalar.

        Raises:
            InputError: the memory is smaller than the batch, that of all processes together.
        """
        if enqueue_mask is None and len(embeddings) > self.memory_size:
            raise InputError(
                f"a memory of {self.memory_size} embeddings can't hold a batch of "
                f"{len(embeddings)}. Raise loss.memory_size, or lower data.batch_size."
            )
        return super().forward(embeddings, labels, indices_tuple, enqueue_mask)

    def get_extra_state(self) -> Tensor:
        """(2,) int64: the next place that is overwritten, and whether all places are filled."""
        return torch.tensor([self.queue_idx, self.has_been_filled], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on where `get_extra_state` was."""
        self.queue_idx, self.has_been_filled = int(state[0]), bool(state[1])
