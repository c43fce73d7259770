"""Re-ranking: what may stand between the first search and the neighbours that are scored.

Each is called with (gallery, queries, k, everything) and yields Neighbours for blocks of queries;
`everything` holds queries and gallery, each id once. They see vectors only, never labels or groups:
those of the queries are not known where a system is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_array, diags_array

from lookalike.errors import InputError
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.exact import blocks, nearest
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.relevance import rows_of


class Rerank(Protocol):
    def __call__(
        self, gallery: Gallery, queries: Embeddings, k: int, everything: Embeddings
    ) -> Iterator[Neighbours]: ...


@dataclass(frozen=True)
class NoReranking:
    """The null re-ranking: neighbours by cosine similarity."""

    def __call__(
        self, gallery: Gallery, queries: Embeddings, k: int, everything: Embeddings
    ) -> Iterator[Neighbours]:
        yield from gallery.search(queries, k)


@dataclass(frozen=True)
class QueryExpansion:
    """Searches again with a weighted mean of the query and its nearest gallery items.

    Average expansion: Chum et al., ICCV 2007, section 3. With alpha: Radenovic et al., TPAMI 2019,
    arXiv:1711.02512, section 4.3. A query is not expanded with itself.

    Args:
        neighbours: how many gallery items take part.
        alpha: each weighs as its cosine similarity to this power, negative ones nothing; 0 weighs
            them all as the query itself.
    """

    neighbours: int = 3
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.alpha < 0:
            raise InputError("query expansion needs neighbours >= 1 and alpha >= 0")

    def __call__(
        self, gallery: Gallery, queries: Embeddings, k: int, everything: Embeddings
    ) -> Iterator[Neighbours]:
        yield from gallery.search(self.expand(queries, gallery.embeddings), k)

    def expand(self, queries: Embeddings, gallery: Embeddings) -> Embeddings:
        """The queries with expanded vectors, of length 1."""
        own = rows_of(queries.ids, gallery.ids)
        vectors = queries.vectors.copy()
        found, scores = _others(queries.vectors, gallery.vectors, own, self.neighbours)
        weights = scores.clip(0, 1) ** self.alpha * np.isfinite(scores)  # (Q, k)
        for rows in blocks(len(queries), self.neighbours * vectors.shape[1]):
            near = gallery.vectors[found[rows]]  # (B, k, D)
            vectors[rows] += (weights[rows, :, None] * near).sum(axis=1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return replace(queries, vectors=(vectors / lengths).astype(np.float32))


@dataclass(frozen=True)
class KReciprocal:
    """k-reciprocal encoding. Zhong et al., CVPR 2017, arXiv:1701.08398, sections 3.2 to 3.5.

    Every image is encoded by its expanded set of k-reciprocal neighbours, weighted by closeness
    (equation 7) and averaged over its nearest (equation 11); codes are compared by Jaccard distance
    (equation 10), which is added to the original one (equation 12). As in the authors' code, the
    original distance is squared Euclidean, divided by each image's greatest, and all queries take
    part in each other's encoding: a score holds for this set of queries together. Codes are sparse
    and only a block of queries is compared at a time, so memory grows with N x k1, not N x N.

    Args:
        k1: neighbours that may be reciprocal.
        k2: nearest images, itself included, over which codes are averaged.
        original_weight: lambda, of the original distance, in [0, 1].
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.k2 <= self.k1 + 1 or not 0 <= self.original_weight <= 1:
            raise InputError(
                f"re-ranking with k1={self.k1}, k2={self.k2}, original_weight="
                f"{self.original_weight}: need 1 <= k2 <= k1 + 1 and 0 <= original_weight <= 1"
            )

    def __call__(
        self, gallery: Gallery, queries: Embeddings, k: int, everything: Embeddings
    ) -> Iterator[Neighbours]:
        # shuffled: among equal distances the order of the data, often sorted by class, must not win
        everything = everything[np.random.default_rng(0).permutation(len(everything))]
        ranking, greatest = _ranking(everything.vectors, self.k1 + 1)
        codes = self._codes(everything.vectors, ranking, greatest)
        asked = rows_of(queries.ids, everything.ids)
        compared = csc_array(codes[rows_of(gallery.embeddings.ids, everything.ids)])  # (G, N)
        for rows in blocks(len(queries), len(gallery)):
            block = queries[rows]
            original = _squared_distances(block.vectors @ gallery.embeddings.vectors.T)
            original /= greatest[asked[rows], None]
            shared = np.stack([_shared(codes, row, compared, len(gallery)) for row in asked[rows]])
            jaccard = 1 - shared / (2 - shared)  # codes sum to 1: minima and maxima add up to 2
            distances = (1 - self.original_weight) * jaccard + self.original_weight * original
            yield gallery.rank(block, 1 - distances, k)

    def _codes(
        self, vectors: NDArray[np.float32], ranking: NDArray[np.int64], greatest: NDArray
    ) -> csr_array:
        """One code an image, (N, N) with rows that sum to 1."""
        wide = _reciprocal(ranking)
        narrow = _reciprocal(ranking[:, : round(self.k1 / 2) + 1])
        pairs = _expanded(wide, narrow)
        closeness = np.exp(-_distances_of(pairs, vectors, greatest))
        weights = csr_array((closeness, pairs.nonzero()), pairs.shape)
        average = _members(ranking[:, : self.k2]) / min(self.k2, len(vectors))
        return csr_array(average @ diags_array(1 / weights.sum(axis=1)) @ weights)


def _ranking(vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of every row its k nearest, itself first, (N, k), and its greatest squared distance, (N,)."""
    own = np.arange(len(vectors))
    others, _ = _others(vectors, vectors, own, k - 1)
    lowest = [(vectors[part] @ vectors.T).min(axis=1) for part in blocks(len(own), len(own))]
    greatest = _squared_distances(np.concatenate(lowest))
    # not below what float32 rounds away: of equal embeddings, nothing is far
    ranking = np.concatenate([own[:, None], others[:, : len(vectors) - 1]], axis=1)
    return ranking, greatest.clip(1e-6)


def _others(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    own: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and scores of the k nearest, a query's own row last and with minus infinity, (Q, k)."""
    rows, scores = nearest(queries, gallery, k + 1, "inner_product")
    scores[rows == own[:, None]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _members(ranking: NDArray[np.int64]) -> csr_array:
    """(N, k) rows -> (N, N) with 1 where a row is among the k."""
    n, k = ranking.shape
    ones = np.ones(ranking.size, np.float32)
    return csr_array((ones, ranking.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def _reciprocal(ranking: NDArray[np.int64]) -> csr_array:
    """(N, N), symmetric: 1 where two rows are among each other's k nearest, equation 3."""
    forward = _members(ranking)
    return csr_array(forward.multiply(forward.T))


def _expanded(wide: csr_array, narrow: csr_array) -> csr_array:
    """Each set of `wide`, with every member's own `narrow` set that lies in it by more than two
    thirds, equation 5; non-zero where a member.

    Differs: the equation also takes a set that lies in it by exactly two thirds; the authors' code,
    with which they published, doesn't.
    """
    shared = coo_array(wide.multiply(wide @ narrow))
    sizes = narrow.sum(axis=1)
    fits = 3 * shared.data > 2 * sizes[shared.col]
    chosen = csr_array((shared.data[fits], (shared.row[fits], shared.col[fits])), wide.shape)
    return csr_array(wide + chosen @ narrow)


def _distances_of(
    pairs: csr_array, vectors: NDArray[np.float32], greatest: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The original distance of every non-zero pair, in the order of `nonzero`."""
    first, second = pairs.nonzero()
    products = np.empty(len(first), np.float32)
    for rows in blocks(len(first), vectors.shape[1]):
        products[rows] = np.einsum("nd,nd->n", vectors[first[rows]], vectors[second[rows]])
    return _squared_distances(products) / greatest[first]


def _shared(codes: csr_array, row: int, compared: csc_array, size: int) -> NDArray[np.float64]:
    """The sum of minima of one code and every code of the gallery, (G,); G is `size`."""
    own = slice(codes.indptr[row], codes.indptr[row + 1])
    spans = [
        slice(compared.indptr[column], compared.indptr[column + 1]) for column in codes.indices[own]
    ]
    sizes = [span.stop - span.start for span in spans]
    others = np.concatenate([compared.data[span] for span in spans])
    members = np.concatenate([compared.indices[span] for span in spans])
    minima = np.minimum(others, np.repeat(codes.data[own], sizes))
    sums = np.zeros(size)
    np.add.at(sums, members, minima)
    return sums


def _squared_distances(products: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of unit vectors, from their inner products."""
    return (2 - 2 * products).clip(0)
