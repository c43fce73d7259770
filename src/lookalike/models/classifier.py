"""Classifiers: images -> the probabilities of named classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.data.reading import in_order
from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.losses.classifier import Logits
from lookalike.models.embedder import Embedder
from lookalike.retrieval.embeddings import embed


@dataclass(frozen=True, eq=False)
class Classifier:
    """name: for people; network: images (B, 3, H, W) uint8 -> logits (B, C), in evaluation mode;
    class_names: (C,); transform: the view that the network wants."""

    name: str
    network: nn.Module
    class_names: tuple[str, ...]
    transform: Any


class EmbeddingLogits(nn.Module):
    """An embedder and the classifier that its loss trained, as one network.

    Args:
        embedder: images -> embeddings.
        loss: moved with it to a device.
        logits: of that loss, see `logits_of`.
    """

    def __init__(self, embedder: Embedder, loss: nn.Module, logits: Logits) -> None:
        super().__init__()
        self.embedder = embedder
        self.loss = loss
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.embedder(images))


def predict(
    classifier: Classifier,
    records: Records,
    device: torch.device,
    batch_size: int = 64,
    num_workers: int | None = 0,
) -> NDArray[np.float32]:
    """The probability of every class for every image, (N, C); rows add up to 1."""
    batches = in_order(records, classifier.transform, batch_size, num_workers)
    network = classifier.network.to(device)
    logits = embed(network, batches, device, f"Classifying with {classifier.name}")
    return torch.from_numpy(logits.vectors).softmax(1).numpy()


def named_apart(classifiers: Sequence[Classifier]) -> list[Classifier]:
    """The same, with numbers after names that occur twice."""
    twice = {name for name, count in Counter(c.name for c in classifiers).items() if count > 1}
    return [
        replace(each, name=f"{each.name} ({number})") if each.name in twice else each
        for number, each in enumerate(classifiers, 1)
    ]


def check_same_classes(classifiers: Sequence[Classifier]) -> None:
    """Raises InputError where models can't vote, as they do not name the same classes in the same
    order."""
    first, *others = classifiers
    for other in others:
        if other.class_names != first.class_names:
            raise InputError(
                f"{first.name} and {other.name} can't vote: {_some(first)}, and {_some(other)}. "
                "Give models of the same classes, or vote=false to see them side by side."
            )


def _some(classifier: Classifier, count: int = 4) -> str:
    names = classifier.class_names
    listing = ", ".join(names[:count]) + (", ..." if len(names) > count else "")
    return f"{classifier.name} knows {len(names)} ({listing})"
