"""Geometry of an embedding space: hubs, distances within and between classes, confusions, a map.

Pure functions of Embeddings and of their neighbours. Distances are cosine distances, 1 - cos, in
[0, 2]: their mean over all pairs of two classes follows from the sums of the classes' vectors.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.neighbours import Gallery, Neighbours

ROWS = 1024  # of the similarity matrix held at once
COMPONENTS = 50  # principal components that t-SNE starts from, as its authors advise

Projection = Literal["tsne", "pca"]


@dataclass(frozen=True, eq=False)
class SimilarityHistograms:
    """Counts of image pairs in B bins of cosine similarity; each pair counts once.

    edges: (B + 1,) float64, of the bins, from -1 to 1.
    positive: (B,) int64, pairs of one class.
    negative: (B,) int64, pairs of two classes.
    """

    edges: NDArray[np.float64]
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    @property
    def overlap(self) -> float:
        """The common area of both normalised histograms, in [0, 1].

        0 if a threshold separates positive from negative pairs.
        """
        positive, negative = (
            counts / max(1, counts.sum()) for counts in (self.positive, self.negative)
        )
        return float(np.minimum(positive, negative).sum())


@dataclass(frozen=True)
class Confusion:
    """How often the nearest image of a class's queries is of one other class.

    label: of the queries.
    mistaken_for: label of the nearest images.
    found: number of such queries.
    queries: number of all queries of the class.
    """

    label: int
    mistaken_for: int
    found: int
    queries: int


def nearest(queries: Embeddings, gallery: Embeddings, k: int) -> Neighbours:
    """The k nearest gallery items of all queries, in one piece.

    >>> vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> images = Embeddings(vectors, labels=np.array([0, 1, 1]), ids=np.arange(3))
    >>> nearest(images, images, k=1).ids.tolist()
    [[1], [2], [1]]
    """
    blocks = list(Gallery(gallery).search(queries, k))
    return Neighbours(
        ids=np.concatenate([block.ids for block in blocks]),
        scores=np.concatenate([block.scores for block in blocks]),
        relevant=np.concatenate([block.relevant for block in blocks]),
        n_relevant=np.concatenate([block.n_relevant for block in blocks]),
    )


def k_occurrences(found: NDArray[np.int64], gallery: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each gallery item, the number of queries that have it among their k nearest, (G,).

    N_k(x) in Radovanović et al., "Hubs in Space", JMLR 2010. Items that are neighbours of very
    many queries are hubs; neighbours of none are anti-hubs.

    Args:
        found: (Q, k), ids of the neighbours, -1 where there is none.
        gallery: (G,), ids of all gallery items.

    >>> k_occurrences(found=np.array([[7], [7], [-1]]), gallery=np.array([5, 7])).tolist()
    [0, 2]
    """
    order = np.argsort(gallery)
    places = np.searchsorted(gallery, found[found >= 0], sorter=order)
    return np.bincount(order[places], minlength=len(gallery))


def skewness(values: NDArray[np.number]) -> float:
    """The third standardised moment of values (N,); 0 if all are equal.

    The skewness of N_k is the usual measure of hubness (same paper, equation 1); above 1 there
    clearly are hubs.
    """
    centred = values - values.mean()
    deviation = np.sqrt((centred**2).mean())
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0


def spread(vectors: NDArray[np.float32]) -> float:
    """The mean cosine distance between two different images, of unit vectors (N, D).

    0 where all are the same: the embedding has collapsed. NaN for fewer than two images.

    >>> spread(np.array([[1, 0], [0, 1]], np.float32))
    1.0
    """
    n = len(vectors)
    if n < 2:
        return float("nan")
    wide = vectors.astype(np.float64)
    total = wide.sum(axis=0)
    products = total @ total - (wide * wide).sum()  # over all ordered pairs
    return float(max(0.0, 1 - products / (n * (n - 1))))


def class_distances(embeddings: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The labels (C,) of all classes, and the mean distances (C, C) between their images.

    The diagonal holds the mean distance between two different images of a class; NaN for a class
    with one image.
    """
    classes, rows = np.unique(embeddings.labels, return_inverse=True)
    vectors = embeddings.vectors.astype(np.float64)
    sums = np.zeros((len(classes), vectors.shape[1]))
    np.add.at(sums, rows, vectors)
    counts = np.bincount(rows).astype(np.float64)
    products = sums @ sums.T  # (C, C), inner products summed over all pairs of images
    own = np.zeros(len(classes))
    np.add.at(own, rows, (vectors**2).sum(axis=1))  # of each image with itself
    pairs = np.outer(counts, counts)
    np.fill_diagonal(products, products.diagonal() - own)
    np.fill_diagonal(pairs, counts * (counts - 1))
    return classes, 1 - np.divide(products, pairs, np.full_like(pairs, np.nan), where=pairs > 0)


def similarity_histograms(embeddings: Embeddings, bins: int = 80) -> SimilarityHistograms:
    """Histograms of the cosine similarity of all pairs of images, in equally wide bins."""
    edges = np.linspace(-1, 1, bins + 1)
    positive, negative = np.zeros((2, bins), np.int64)
    columns = np.arange(len(embeddings))
    for start in range(0, len(embeddings), ROWS):
        block = embeddings[start : start + ROWS]
        similarity = (block.vectors @ embeddings.vectors.T).clip(-1, 1)
        later = columns[None] > columns[start : start + ROWS, None]
        same = block.labels[:, None] == embeddings.labels[None]
        positive += np.histogram(similarity[later & same], edges)[0]
        negative += np.histogram(similarity[later & ~same], edges)[0]
    return SimilarityHistograms(edges, positive, negative)


def confusions(labels: NDArray[np.int64], found: NDArray[np.int64]) -> list[Confusion]:
    """Which classes are mistaken for which, the most frequent confusion first.

    Equally frequent ones are sorted by their share of the class's queries, then by label.

    Args:
        labels: (Q,), of the queries.
        found: (Q,), labels of their nearest images.
    """
    wrong = labels != found
    pairs, counts = np.unique(
        np.stack([labels[wrong], found[wrong]], axis=1), axis=0, return_counts=True
    )
    totals = dict(zip(*(a.tolist() for a in np.unique(labels, return_counts=True)), strict=True))
    listed = [
        Confusion(label, other, count, totals[label])
        for (label, other), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(listed, key=lambda c: (-c.found, c.queries, c.label, c.mistaken_for))


def project(vectors: NDArray[np.float32], method: Projection, seed: int = 0) -> NDArray[np.float64]:
    """Coordinates of a map of the embeddings, (N, D) -> (N, 2) float64.

    In a map by t-SNE only near neighbours have a meaning. It needs 5 images; fewer are placed by
    their principal components.

    Args:
        vectors: (N, D).
        method: "tsne" or "pca", the first two principal components.
        seed: of t-SNE.
    """
    principal = _principal_components(vectors)
    if method == "pca" or len(vectors) < 5:
        return principal[:, :2]
    from sklearn.manifold import TSNE

    tsne = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(principal), np.float64)


def _principal_components(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Coordinates along the first principal components, (N, D) -> (N, 2..COMPONENTS)."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates = (left * sizes)[:, :COMPONENTS]
    return np.pad(coordinates, ((0, 0), (0, max(0, 2 - coordinates.shape[1]))))


def extreme_queries(
    values: NDArray[np.float64], certainty: NDArray[np.floating], labels: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the n best and of the n worst queries, at most one of each class.

    Queries with equal values are sorted by certainty, the most certain first.

    Args:
        values: (Q,), of a metric of which more is better; queries with NaN are left out.
        certainty: (Q,), similarity of the nearest image.
        labels: (Q,), of the queries.
        n: how many best and how many worst.

    Returns:
        Two arrays of at most n rows.
    """
    defined = np.flatnonzero(~np.isnan(values))

    def first_of_each_class(order: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = defined[order]
        _, firsts = np.unique(labels[rows], return_index=True)
        return rows[np.sort(firsts)][:n]

    best = np.lexsort((-certainty[defined], -values[defined]))
    worst = np.lexsort((-certainty[defined], values[defined]))
    return first_of_each_class(best), first_of_each_class(worst)
