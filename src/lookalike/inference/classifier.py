"""Classifiers in use: images -> the probabilities of named classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.markup import escape
from torch import Tensor, nn

from lookalike.data.images import Transform
from lookalike.data.measuring import MeasuredImages
from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.losses.classifier import Logits, logits_of
from lookalike.models.embedder import Embedder
from lookalike.retrieval.embeddings import embed


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that names the class of images.

    name: for people.
    network: images (B, 3, H, W) uint8 -> logits (B, C), in evaluation mode.
    class_names: (C,).
    transform: the view that the network wants.
    """

    name: str
    network: nn.Module
    class_names: tuple[str, ...]
    transform: Transform


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model takes images for.

    model: its name.
    class_names: (C,).
    probabilities: (N, C) float32; rows add up to 1.
    """

    model: str
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32]

    def best(self, image: int, count: int) -> list[tuple[str, float]]:
        """The most likely classes of an image, with their probabilities in [0, 1]."""
        row = self.probabilities[image]
        return [
            (self.class_names[c], float(row[c])) for c in np.argsort(-row, kind="stable")[:count]
        ]


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


def load_classifier(file: str | Path, trust: Sequence[str] = ()) -> Classifier:
    """The classifier of the training classes that a checkpoint holds, under its run's name.

    Args:
        file: that `lookalike train` saved.
        trust: packages of your own whose parts the checkpoint may name.

    Raises:
        InputError: the file is no checkpoint of lookalike's, names a part that is neither known
            nor trusted, or its loss has no classifier.
    """
    return classifier_in(read_checkpoint(file, trust))


def classifier_in(checkpoint: Checkpoint) -> Classifier:
    """The same of a checkpoint that was read already."""
    loss = checkpoint.loss()
    logits = logits_of(loss)
    if logits is None:
        kind = checkpoint.config["loss"]["_target_"].rpartition(".")[2]
        raise InputError(
            f"{checkpoint.file} was trained with {kind}, which has no classifier, so it can't name "
            "classes; lookalike search can use it with within=all. Train with loss=softmax, "
            "softmax_triplet, norm_softmax, arcface or cosface."
        )
    return Classifier(
        name=checkpoint.config["name"],
        network=EmbeddingLogits(checkpoint.shortened(None).embedder(), loss, logits).eval(),
        class_names=checkpoint.class_names,
        transform=checkpoint.transform(),
    )


def classify(
    classifier: Classifier,
    records: Records,
    device: torch.device,
    batch_size: int = 64,
    num_workers: int | None = 0,
) -> Predictions:
    """The probability of every class for every image.

    Args:
        classifier: moved to the device.
        records: of the images; their classes play no part.
        device: where to compute.
        batch_size: images at once.
        num_workers: processes that read images; null has one for each core.
    """
    views = {"test": classifier.transform}
    batches = MeasuredImages(records, views, batch_size, num_workers).loader(records.every_id)
    network = classifier.network.to(device)
    logits = embed(network, batches, device, f"Classifying with {escape(classifier.name)}")
    probabilities = torch.from_numpy(logits.vectors).softmax(1).numpy()
    return Predictions(classifier.name, classifier.class_names, probabilities)


def with_unique_names(classifiers: Sequence[Classifier]) -> list[Classifier]:
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
