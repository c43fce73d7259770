"""Errors of pytorch-metric-learning's losses, translated into messages with the next command."""

from collections.abc import Iterator
from contextlib import contextmanager

from lookalike.errors import InputError

REMEDIES = {  # part of the original message -> end of ours
    "indices_tuple is not supported": "takes every pair, not only mined ones. Set miner=none.",
    "Triplet reduction not supported": (
        "is a loss of triplets, which have no mean of each anchor. Choose another reducer than "
        "per_anchor, or another loss."
    ),
    "'divisor'": "has no divisor. reducer=divisor is for loss=margin and loss=proxy_anchor.",
}


@contextmanager
def translate_errors(loss: object) -> Iterator[None]:
    """A context in which known errors of a loss become InputErrors; others stay as they are.

    Args:
        loss: is named in the message.

    Raises:
        InputError: the loss does not support the miner or reducer that it was given, or divides
            by a setting that is zero.
    """
    try:
        yield
    except (ValueError, KeyError, NotImplementedError) as error:
        remedy = next((ours for part, ours in REMEDIES.items() if part in str(error)), None)
        if remedy is None:
            raise
        raise InputError(f"{type(loss).__name__} {remedy}") from error
    except ZeroDivisionError as error:
        raise InputError(
            f"{type(loss).__name__} divides by zero: one of its settings is 0 and must not be."
        ) from error
