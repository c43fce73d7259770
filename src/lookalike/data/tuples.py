"""Explicit pairs and triplets, as in Siamese training: drawn by class before any image is read.

A sampler draws the tuples of an epoch. Its batches hold whole tuples, one after the other: (anchor,
positive, negative, anchor, ...). The matching miner passes exactly these tuples to the loss, so
that no other part of the training needs to know of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Sampler

from lookalike.data.mining import Pairs, Triplets
from lookalike.data.sampling import UniformBatches
from lookalike.errors import InputError

Ids = NDArray[np.int64]
Draw = Callable[[Ids, Ids, np.random.Generator], Ids]  # ids (N,), labels (N,), rng -> (T, S)


class TupleBatches(Sampler[list[int]]):
    """Batches of whole tuples, which are redrawn and shuffled every epoch.

    The last batch is filled up with other tuples.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: (N,) int64, their labels.
        batch_size: images a batch on each rank, a multiple of the tuple size S.
        draw: ids (N,), labels (N,), random generator -> an epoch's tuples (T, S).
        seed: of the tuples and their order, together with the epoch.
        shared: whether ranks take turns with the batches; otherwise every rank yields all.

    Raises:
        InputError: the batch size is no multiple of S, or the data have no tuples.
    """

    def __init__(
        self,
        ids: Ids,
        labels: Ids,
        batch_size: int,
        draw: Draw,
        seed: int = 0,
        shared: bool = True,
    ) -> None:
        self.ids = ids
        self.labels = labels
        self.draw = draw
        self.seed = seed
        self.epoch = 0
        count, size = self.tuples().shape
        if batch_size % size:
            raise InputError(
                f"a batch of {batch_size} images holds no whole number of tuples of {size}. Set "
                f"data.batch_size={max(1, batch_size // size) * size}."
            )
        rows = np.arange(count)
        self.row_batches = UniformBatches(rows, rows, batch_size // size, seed=seed, shared=shared)

    def tuples(self) -> Ids:
        """The tuples of this epoch, (T, S) int64."""
        return self.draw(self.ids, self.labels, np.random.default_rng((self.seed, self.epoch, 1)))

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's tuples are drawn next."""
        self.epoch = epoch
        self.row_batches.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches an epoch on each rank."""
        return len(self.row_batches)

    def __iter__(self) -> Iterator[list[int]]:
        tuples = self.tuples()
        for rows in self.row_batches:
            yield tuples[rows].ravel().tolist()


def draw_triplets(ids: Ids, labels: Ids, rng: np.random.Generator, per_class: int = 8) -> Ids:
    """Random triplets, equally many of every class: anchor, positive, negative, (T, 3) int64.

    Anchor and positive are two images of the class. For the negative, another class is drawn and
    then one of its images. Everything is drawn with replacement. A class with one image has no
    anchors, but can give negatives.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: (N,) int64, their labels.
        rng: the random generator.
        per_class: triplets of every class with two images or more.

    Raises:
        InputError: no class has two images, or there is one class only.
    """
    classes = _Classes.of(ids, labels)
    own = np.repeat(classes.with_two_images(), per_class)
    anchor, positive = classes.two_images(own, rng)
    negative = classes.one_image(classes.another(own, rng), rng)
    return np.stack([anchor, positive, negative], axis=1)


def draw_pairs(
    ids: Ids,
    labels: Ids,
    rng: np.random.Generator,
    per_class: int = 3,
    nearest: Sequence[Sequence[int]] | None = None,
) -> Ids:
    """Random pairs, equally many positive and negative ones of every class, (P, 2) int64.

    For the second image of a negative pair, another class is drawn and then one of its images.
    Everything is drawn with replacement. A class with one image begins no pair, so that both kinds
    stay equally many, but can give the second image of a negative pair.

    Args:
        ids: (N,) int64, the records to draw from.
        labels: (N,) int64, their labels.
        rng: the random generator.
        per_class: pairs of each kind, of every class with two images or more.
        nearest: for hard pairs, (C, k): the labels of the other classes from which the negative
            pairs of each class are drawn, see `nearest_classes`. None for all other classes.

    Raises:
        InputError: no class has two images, there is one class only, or `nearest` has another
            number of classes or a class as its own neighbour.
    """
    classes = _Classes.of(ids, labels)
    own = np.repeat(classes.with_two_images(), per_class)
    positive = np.stack(classes.two_images(own, rng), axis=1)
    others = classes.another(own, rng) if nearest is None else classes.near(own, nearest, rng)
    negative = np.stack([classes.one_image(own, rng), classes.one_image(others, rng)], axis=1)
    return np.concatenate([positive, negative])


def nearest_classes(vectors: NDArray[np.float32], labels: Ids, k: int) -> Ids:
    """For each class, the k others with the most similar mean embeddings, (C, k) int64.

    They are sorted by cosine similarity, the most similar first.

    Args:
        vectors: (N, D) float32, of length 1.
        labels: (N,) int64, 0..C-1, with an image of every class.
        k: below C.

    >>> vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> nearest_classes(vectors, np.array([0, 1, 2]), k=1).tolist()
    [[1], [2], [1]]
    """
    means = np.stack([vectors[labels == label].mean(0) for label in range(labels.max() + 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    similarity = means @ means.T  # (C, C)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


class InTriplets(nn.Module):
    """The miner for `draw_triplets`: every three images of the batch are a triplet."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Triplets:
        """Embeddings (B, D), labels (B,) -> positions of anchors, positives, negatives, (B / 3,).

        Raises:
            InputError: the batch does not consist of triplets.
        """
        anchor, positive, negative = _positions(labels, 3)
        fitting = (labels[anchor] == labels[positive]) & (labels[anchor] != labels[negative])
        if not bool(fitting.all()):
            raise InputError(_not_explicit(3))
        return anchor, positive, negative


class InPairs(nn.Module):
    """The miner for `draw_pairs`: every two images of the batch are a pair."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Pairs:
        """Embeddings (B, D), labels (B,) -> positions of the images of both kinds of pairs.

        Raises:
            InputError: the batch does not consist of pairs.
        """
        first, second = _positions(labels, 2)
        positive = labels[first] == labels[second]
        return first[positive], second[positive], first[~positive], second[~positive]


@dataclass(frozen=True, eq=False)
class _Classes:
    """The records of every class; classes are named by their position 0..C-1 here.

    ids: (N,) int64, sorted by class.
    labels: (C,) int64, ascending.
    starts: (C,) int64, where each class begins in `ids`.
    counts: (C,) int64, records of each class.
    """

    ids: Ids
    labels: Ids
    starts: Ids
    counts: Ids

    @classmethod
    def of(cls, ids: Ids, labels: Ids) -> "_Classes":
        order = np.argsort(labels, kind="stable")
        distinct, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        if len(distinct) < 2:
            raise InputError(
                "pairs and triplets need two classes or more, and there is one. Check data.root, "
                "or how the classes were split (data.protocol)."
            )
        return cls(ids[order], distinct, starts, counts)

    def with_two_images(self) -> Ids:
        """The classes with two records or more, (M,)."""
        classes = np.flatnonzero(self.counts >= 2)
        if not len(classes):
            raise InputError(
                "no class has two images, so there are no positive pairs. Add images, or check the "
                "labels."
            )
        return classes

    def two_images(self, own: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """The ids of two different records of each class, (T,) each."""
        counts = self.counts[own]
        first = rng.integers(counts)
        second = (first + 1 + rng.integers(counts - 1)) % counts
        return self.ids[self.starts[own] + first], self.ids[self.starts[own] + second]

    def one_image(self, own: Ids, rng: np.random.Generator) -> Ids:
        """The id of one record of each class, (T,)."""
        return self.ids[self.starts[own] + rng.integers(self.counts[own])]

    def another(self, own: Ids, rng: np.random.Generator) -> Ids:
        """A class other than each of these, (T,)."""
        count = len(self.counts)
        return (own + 1 + rng.integers(count - 1, size=len(own))) % count

    def near(self, own: Ids, nearest: Sequence[Sequence[int]], rng: np.random.Generator) -> Ids:
        """One of the nearest classes of each of these, (T,)."""
        table = np.asarray(nearest)
        count = len(self.counts)
        if (
            table.ndim != 2
            or len(table) != count
            or not np.isin(table, self.labels).all()
            or (table == self.labels[:, None]).any()
        ):
            raise InputError(
                f"nearest classes of shape {table.shape} do not fit {count} classes: give (C, k) "
                "labels of other classes, as lookalike.data.tuples.nearest_classes does."
            )
        column = rng.integers(table.shape[1], size=len(own))
        return np.searchsorted(self.labels, table[own, column])


def _positions(labels: Tensor, size: int) -> tuple[Tensor, ...]:
    if len(labels) % size:
        raise InputError(_not_explicit(size))
    return torch.arange(len(labels), device=labels.device).view(-1, size).unbind(1)


def _not_explicit(size: int) -> str:
    name = {2: "pairs", 3: "triplets"}[size]
    return f"this batch does not consist of {name}: miner=in_{name} needs sampler={name}"
