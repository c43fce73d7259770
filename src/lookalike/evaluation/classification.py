"""Metrics of a classifier: pure functions of logits and labels, one value an image.

An embedding that was trained with a classifier can be asked for the class by name; how often it
is right stands beside the metrics of retrieval.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def accuracy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where the largest of logits (N, C) is that of the label, otherwise 0, (N,)."""
    return (logits.argmax(1) == labels).astype(np.float64)


def cross_entropy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Minus the logarithm of the label's probability, (N,): no smoothing, no margin."""
    highest = logits.max(1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
    return total - logits[np.arange(len(labels)), labels]


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """(C, C): how many images of each class (row) were taken for each class (column)."""
    pairs = labels * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def recall_within_class(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], n_relevant: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Recall@k of a search inside the predicted class, at any k, (Q,); NaN where none is relevant.

    Where that class is the query's own, all that is found is relevant; where it is not, nothing
    is. What the restriction gains or costs is the difference to recall@k in the whole gallery.
    """
    return np.where(n_relevant > 0, (predicted == labels).astype(np.float64), np.nan)


@dataclass(frozen=True)
class ClassificationMetric:
    """A name, a value for each image, and whether more of it is better."""

    name: str
    values: Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]
    higher_is_better: bool = True


CLASSIFICATION = (
    ClassificationMetric("accuracy", accuracy),
    ClassificationMetric("loss", cross_entropy, higher_is_better=False),
)
