"""Several images as one query: what they have in common, away from what is not wanted.

Rocchio, "Relevance feedback in information retrieval", 1971: the mean of the positives minus a
share of the mean of the negatives.
"""

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.faiss_flat import unit

NEGATIVE_WEIGHT = 0.25  # of the negatives; the positives weigh 1

Vectors = NDArray[np.float32]


def combined(positives: Vectors, negatives: Vectors | None = None) -> Vectors:
    """One vector of length 1, (D,).

    >>> combined(np.array([[1, 0], [0, 1]], np.float32)).round(3).tolist()
    [0.7070000171661377, 0.7070000171661377]

    Args:
        positives: (P, D) of length 1, at least one.
        negatives: (M, D) of length 1; None for none.

    Raises:
        InputError: nothing is left of them, as the negatives are the positives.
    """
    vector = positives.mean(axis=0, dtype=np.float64)
    if negatives is not None and len(negatives):
        vector = vector - NEGATIVE_WEIGHT * negatives.mean(axis=0, dtype=np.float64)
    if np.linalg.norm(vector) < 1e-6:
        raise InputError("positives and negatives cancel each other: give other negatives")
    return unit(vector[None])[0].astype(np.float32)
