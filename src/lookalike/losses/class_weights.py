"""The mean loss with a weight for each class."""

from collections.abc import Sequence

import torch
from pytorch_metric_learning import reducers


class ClassWeightedReducer(reducers.ClassWeightedReducer):
    """The mean over tuples, each weighted by its anchor's class.

    Args:
        weights: (C,), of the training classes in the order of their labels.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__(weights=torch.tensor(weights))
