"""Cross-batch memory that a resumed training finds as it was. Wang et al., CVPR 2020."""

import torch
from pytorch_metric_learning import losses
from torch import Tensor


class CrossBatchMemory(losses.CrossBatchMemory):
    """pytorch-metric-learning's, which saves the memory but not how far it is filled.

    Arguments and values are pytorch-metric-learning's.
    """

    def get_extra_state(self) -> Tensor:
        """(2,) int64: the next place that is overwritten, and whether all places are filled."""
        return torch.tensor([self.queue_idx, self.has_been_filled], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on where `get_extra_state` was."""
        self.queue_idx, self.has_been_filled = int(state[0]), bool(state[1])
