"""A majority vote: each model names the class it holds most likely, the most named wins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Vote:
    """labels (N,) int64, the winners; agreement (N,) float64, the share of models in (0, 1] that
    named the winner."""

    labels: NDArray[np.int64]
    agreement: NDArray[np.float64]


def majority_vote(probabilities: NDArray[np.floating]) -> Vote:
    """Probabilities (M, N, C) of M models for N images -> the vote.

    Of classes with the same number of votes, the one with the higher sum of probabilities wins;
    where that is the same too, the first.
    """
    models, images, classes = probabilities.shape
    named = probabilities.argmax(2)  # (M, N)
    votes = (named[:, :, None] == np.arange(classes)).sum(0)  # (N, C)
    leading = votes == votes.max(1, keepdims=True)
    summed = probabilities.sum(0, dtype=np.float64)
    winners = np.where(leading, summed, -np.inf).argmax(1)
    return Vote(winners.astype(np.int64), votes[np.arange(images), winners] / models)
