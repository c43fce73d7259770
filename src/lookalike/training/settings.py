"""The settings of an optimiser in a resumed training: those of today's configuration count."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def same_groups(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of optimisers are of one kind and of as many parameters.

    Args:
        one: a state dict, as for `other`.
        other: of an optimiser that has made no step.
    """
    return [_shape(group) for group in one["param_groups"]] == [
        _shape(group) for group in other["param_groups"]
    ]


def obey(optimizer: Optimizer, scheduler: LRScheduler, fresh: Optimizer) -> None:
    """Give an optimiser that a checkpoint has filled the settings of a fresh one.

    A schedule goes on from the step where it was, on its way from today's learning rates over
    today's length. If nothing was changed, no number changes.

    Args:
        optimizer: filled from a checkpoint, or not.
        scheduler: of the optimiser.
        fresh: an optimiser of the same parameters.
    """
    for number, (group, wanted) in enumerate(
        zip(optimizer.param_groups, fresh.param_groups, strict=True)
    ):
        rate, base = group["lr"], group["initial_lr"]
        group.update({key: value for key, value in wanted.items() if key != "params"})
        group["initial_lr"] = scheduler.base_lrs[number] = wanted["lr"]
        if isinstance(scheduler, LambdaLR):
            factor = scheduler.lr_lambdas[number](scheduler.last_epoch)
            group["lr"] = wanted["lr"] * factor
        elif wanted["lr"] == base or not base:
            group["lr"] = rate
        else:
            group["lr"] = rate * wanted["lr"] / base


def _shape(group: Mapping[str, Any]) -> tuple[Any, int, list[str]]:
    settings = sorted(key for key in group if key not in ("params", "initial_lr"))
    return group.get("name"), len(group["params"]), settings
