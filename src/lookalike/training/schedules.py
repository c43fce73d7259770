"""Learning-rate schedules over the whole training, stepped every optimiser step.

Each is (optimizer, total_steps) -> scheduler; they multiply the learning rate of every group.
"""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The learning rates stay as they are."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0
) -> LambdaLR:
    """Linear warm-up, then half a cosine. Loshchilov & Hutter, ICLR 2017, without restarts.

    Args:
        optimizer: has the learning rates that are multiplied.
        total_steps: of the optimiser.
        warmup: share of the steps in which the rate rises from 0, in [0, 1).
        final: factor at the end.
    """
    rising = warmup * total_steps

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = min(1.0, (step - rising) / max(1.0, total_steps - rising))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def steps(
    optimizer: Optimizer,
    total_steps: int,
    milestones: Sequence[float] = (0.6, 0.85),
    gamma: float = 0.1,
) -> LambdaLR:
    """The learning rates are multiplied by `gamma` at each milestone.

    Args:
        optimizer: has the learning rates that are multiplied.
        total_steps: of the optimiser.
        milestones: shares of the training, in (0, 1).
        gamma: factor.
    """
    return LambdaLR(
        optimizer,
        lambda step: gamma ** sum(step >= milestone * total_steps for milestone in milestones),
    )
