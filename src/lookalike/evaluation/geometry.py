"""Geometry of an embedding space: hubs, distances within and between classes, confusions, a map.

Pure functions of Embeddings and of their neighbours. Distances are cosine distances, 1 - cos, in
[0, 2], so that means over all pairs follow from sums over classes.
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
    """Pairs of images by their cosine similarity; each pair counts once.

    edges: (B + 1,) float64, from -1 to 1.
    positive: (B,) int64, pairs of one class.
    negative: (B,) int64, pairs of two classes.
    """

    edges: NDArray[np.float64]
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    @property
    def overlap(self) -> float:
        """The area that the two shares have in common: 0 if a threshold separates the pairs."""
        positive, negative = (
            counts / max(1, counts.sum()) for counts in (self.positive, self.negative)
        )
        return float(np.minimum(positive, negative).sum())


@dataclass(frozen=True)
class Confusion:
    """Of `queries` queries of one class, `found` have an image of another one nearest (labels)."""

    label: int
    mistaken_for: int
    found: int
    queries: int


def nearest(queries: Embeddings, gallery: Embeddings, k: int) -> Neighbours:
    """The k nearest of all queries in one piece."""
    blocks = list(Gallery(gallery).search(queries, k))
    return Neighbours(
        ids=np.concatenate([block.ids for block in blocks]),
        scores=np.concatenate([block.scores for block in blocks]),
        relevant=np.concatenate([block.relevant for block in blocks]),
        n_relevant=np.concatenate([block.n_relevant for block in blocks]),
    )


def k_occurrences(found: NDArray[np.int64], gallery: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each gallery item is among the k nearest of a query, (G,).

    Radovanović et al., "Hubs in Space", JMLR 2010: N_k(x). Few items that many queries find are
    hubs; those that none finds are anti-hubs.

    Args:
        found: ids (Q, k) of the neighbours, -1 for none.
        gallery: ids (G,).
    """
    order = np.argsort(gallery)
    places = np.searchsorted(gallery, found[found >= 0], sorter=order)
    return np.bincount(order[places], minlength=len(gallery))


def skewness(values: NDArray[np.number]) -> float:
    """The third standardised moment; 0 if all are equal. Of N_k it is the usual measure of
    hubness (same paper, equation 1): above 1 is a clear sign."""
    centred = values - values.mean()
    deviation = np.sqrt((centred**2).mean())
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0


def class_distances(embeddings: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The classes (C,) present, and the mean distances (C, C) between images of two of them.

    On the diagonal the mean distance of two different images of the class; NaN if it has one.
    """
    classes, rows = np.unique(embeddings.labels, return_inverse=True)
    vectors = embeddings.vectors.astype(np.float64)
    sums = np.zeros((len(classes), vectors.shape[1]))
    np.add.at(sums, rows, vectors)
    counts = np.bincount(rows).astype(np.float64)
    products = sums @ sums.T  # (C, C), of all pairs
    own = np.zeros(len(classes))
    np.add.at(own, rows, (vectors**2).sum(axis=1))  # of each image with itself
    pairs = np.outer(counts, counts)
    np.fill_diagonal(products, products.diagonal() - own)
    np.fill_diagonal(pairs, counts * (counts - 1))
    return classes, 1 - np.divide(products, pairs, np.full_like(pairs, np.nan), where=pairs > 0)


def similarity_histograms(embeddings: Embeddings, bins: int = 80) -> SimilarityHistograms:
    """Of the cosine similarities of all pairs of images."""
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
    """Pairs of classes of queries (Q,) and of their nearest images (Q,), the most frequent first;
    equally frequent ones by the share of the class's queries, then by label."""
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
    """(N, D) -> (N, 2), for a map to be looked at; only near neighbours mean something in t-SNE.

    Fewer than 5 images are too few for t-SNE: they are laid out by their principal components.
    """
    principal = _principal_components(vectors)
    if method == "pca" or len(vectors) < 5:
        return principal[:, :2]
    from sklearn.manifold import TSNE

    tsne = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(principal), np.float64)


def _principal_components(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Coordinates along the first COMPONENTS of them, at least 2: (N, D) -> (N, P)."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates = (left * sizes)[:, :COMPONENTS]
    return np.pad(coordinates, ((0, 0), (0, max(0, 2 - coordinates.shape[1]))))


def extreme_queries(
    values: NDArray[np.float64], certainty: NDArray[np.floating], labels: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the n best and of the n worst queries, at most one of a class in each.

    Equally good ones, and equally bad ones, begin with the one whose nearest image is the most
    similar: the surest answers and the surest mistakes.

    Args:
        values: of a metric (Q,), high is good; NaN is left out.
        certainty: similarity of the nearest image, (Q,).
        labels: of the queries, (Q,).
        n: how many of each.
    """
    defined = np.flatnonzero(~np.isnan(values))

    def first_of_each_class(order: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = defined[order]
        _, firsts = np.unique(labels[rows], return_index=True)
        return rows[np.sort(firsts)][:n]

    best = np.lexsort((-certainty[defined], -values[defined]))
    worst = np.lexsort((-certainty[defined], values[defined]))
    return first_of_each_class(best), first_of_each_class(worst)
