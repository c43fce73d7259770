"""What pytorch-metric-learning's losses refuse of a batch, said with the next command."""

from collections.abc import Iterator
from contextlib import contextmanager

from lookalike.errors import InputError

REMEDIES = {  # part of its message -> ours
    "indices_tuple is not supported": "takes every pair, not only mined ones. Set miner=none.",
    "Triplet reduction not supported": (
        "is a loss of triplets, which have no mean of each anchor. Choose another reducer than "
        "per_anchor, or another loss."
    ),
    "'divisor'": "says no divisor. reducer=divisor is for loss=margin and loss=proxy_anchor.",
}


@contextmanager
def explained(loss: object) -> Iterator[None]:
    """Turns a known refusal of the loss into an InputError; all else is raised as it is."""
    try:
        yield
    except (ValueError, KeyError, NotImplementedError) as error:
        remedy = next((ours for part, ours in REMEDIES.items() if part in str(error)), None)
        if remedy is None:
            raise
        raise InputError(f"{type(loss).__name__} {remedy}") from error
