"""Metrics of a classifier: pure functions of logits and labels, one value an image.

Some losses train a classifier of the embedding. Its metrics are reported beside those of retrieval.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def accuracy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where the largest of logits (N, C) is that of the label (N,), otherwise 0, (N,).

    >>> accuracy(np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([0, 1])).tolist()
    [1.0, 0.0]
    """
    return (logits.argmax(1) == labels).astype(np.float64)


def cross_entropy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Minus the natural logarithm of the label's probability, at least 0, (N,).

    Args:
        logits: (N, C), used as they are: without label smoothing and without a margin.
        labels: (N,), 0..C-1.
    """
    highest = logits.max(1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
    return total - logits[np.arange(len(labels)), labels]


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """How many images of each class (row) were predicted as each class (column), (C, C).

    Args:
        labels: (N,), 0..C-1.
        predicted: (N,), 0..C-1.
        num_classes: C.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = labels * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def recall_within_class(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], n_relevant: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Recall@k, for any k, of a search among the gallery images of the predicted class, (Q,).

    It is 1 if the predicted class is the query's own, since every result is then relevant, and 0
    if not. Compare it with recall@k in the whole gallery to see what the restriction gains.

    Args:
        predicted: the class that the classifier gives each query, (Q,).
        labels: the true class of each query, (Q,).
        n_relevant: relevant items of each query in the gallery, (Q,); NaN is returned where 0.
    """
    return np.where(n_relevant > 0, (predicted == labels).astype(np.float64), np.nan)


@dataclass(frozen=True)
class ClassificationMetric:
    """A metric of single images.

    name: as it is logged.
    values: logits (N, C) float64, labels (N,) int64 -> (N,) float64.
    higher_is_better: the metric's direction.
    """

    name: str
    values: Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]
    higher_is_better: bool = True


CLASSIFICATION = (
    ClassificationMetric("accuracy", accuracy),
    ClassificationMetric("loss", cross_entropy, higher_is_better=False),
)
