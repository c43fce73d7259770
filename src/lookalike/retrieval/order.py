"""The order of a ranking as integers, which sort many times faster than tuples.

A key holds, from the highest bit down: the score, descending (32 bits); whether the item is
relevant (1), so that of equal scores the irrelevant items come first; its gallery row (31).
"""

import numpy as np
from numpy.typing import NDArray

ROW = np.uint64(2**31 - 1)
RELEVANT = np.uint64(31)
SCORE = np.uint64(32)


def keys_of(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    relevant: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint64]:
    """Keys of (Q, W) pairs; the lowest comes first in the ranking.

    Args:
        scores: (Q, W), high is near.
        rows: (Q, W) or (1, W), of the gallery, below 2^31.
        relevant: (Q, W), or None where that plays no part.
    """
    keys = descending(scores) << SCORE
    if relevant is not None:
        keys |= relevant.astype(np.uint64) << RELEVANT
    keys |= rows.astype(np.uint64)
    return keys


def scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The scores that keys hold."""
    return ascending(keys >> SCORE)


def rows_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The gallery rows that keys hold."""
    return (keys & ROW).astype(np.int64)


def relevant_of(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether the items of keys are relevant."""
    return ((keys >> RELEVANT) & np.uint64(1)).astype(bool)


def descending(scores: NDArray[np.float32]) -> NDArray[np.uint64]:
    """float32 -> integers below 2**32 in the opposite order; the bits of IEEE 754 allow it."""
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 makes -0 and 0 equal
    positive = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return (~positive).astype(np.uint64)


def ascending(integers: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The float32 numbers of which `descending` made these integers."""
    positive = ~integers.astype(np.uint32)
    bits = np.where(positive >> 31, positive & np.uint32(2**31 - 1), ~positive)
    return bits.astype(np.uint32).view(np.float32)


NOTHING = descending(np.array([-np.inf], np.float32))[0] << SCORE  # the key of no item
