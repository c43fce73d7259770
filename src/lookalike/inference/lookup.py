"""Lookup: the images of a gallery that look like a query, by two measures, inside a class or not.

Both measures are of the features before they get length 1. Cosine then ignores their length, as
every metric of lookalike does, and Euclidean distance does not; so their best matches can differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.exact import nearest, pair_scores


@dataclass(frozen=True)
class Match:
    """A gallery image that looks like a query.

    row: of the gallery.
    cosine: similarity, in [-1, 1].
    euclidean: distance, at least 0.
    cosine_rank: by cosine, from 1 on; None beyond the k that were asked for.
    euclidean_rank: the same by Euclidean distance.
    """

    row: int
    cosine: float
    euclidean: float
    cosine_rank: int | None
    euclidean_rank: int | None


def look_up(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    own: NDArray[np.int64],
    k: int,
    threshold: float,
) -> list[list[Match]]:
    """The `k` nearest by cosine and the `k` nearest by Euclidean distance, each image once.

    Args:
        queries: (Q, D), not normalised.
        gallery: (G, D), likewise.
        rows: (M,) of the gallery that may be found.
        own: (Q,), each query's own row of the gallery, which it does not find; -1 for none.
        k: of each measure.
        threshold: matches of a lower cosine are none.

    Returns:
        For each query, ordered by cosine; empty for "no match".
    """
    if not len(rows):
        return [[] for _ in queries]
    part = gallery[rows]
    by_cosine = rows[nearest(queries, part, k + 1, "cosine")[0]]
    by_distance = rows[nearest(queries, part, k + 1, "euclidean")[0]]
    found = []
    for query, self, near, close in zip(queries, own, by_cosine, by_distance, strict=True):
        ranks = _ranks(near, self, k), _ranks(close, self, k)
        every = np.array(list(ranks[0] | ranks[1]), dtype=np.int64)
        found.append(merged(query, every, gallery[every], *ranks, threshold))
    return found


def _ranks(found: NDArray[np.int64], own: int, k: int) -> dict[int, int]:
    """row -> rank, of the k first that are not the query's own."""
    return {row: rank for rank, row in enumerate(found[found != own][:k].tolist(), 1)}


def merged(
    query: NDArray[np.float32],
    rows: NDArray[np.int64],
    features: NDArray[np.float32],
    cosine_ranks: Mapping[int, int],
    euclidean_ranks: Mapping[int, int],
    threshold: float,
) -> list[Match]:
    """Matches of one query by both measures, ordered by cosine.

    Args:
        query: (D,), not normalised.
        rows: (M,) of the gallery, that a measure ranks.
        features: (M, D) of these.
        cosine_ranks: row -> rank.
        euclidean_ranks: row -> rank.
        threshold: matches of a lower cosine are none.
    """
    every = np.arange(len(rows))
    similarities = pair_scores(query[None], features, np.zeros_like(every), every, "cosine")
    distances = np.linalg.norm(features.astype(np.float64) - query, axis=1)
    found = [
        Match(row, similarity, distance, cosine_ranks.get(row), euclidean_ranks.get(row))
        for row, similarity, distance in zip(
            rows.tolist(), similarities.tolist(), distances.tolist(), strict=True
        )
        if similarity >= threshold
    ]
    return sorted(found, key=_place)


def _place(match: Match) -> tuple[float, float, int]:
    """By the rank of cosine, which re-ranking may have changed; then those beyond it."""
    rank = inf if match.cosine_rank is None else match.cosine_rank
    return rank, -match.cosine, match.row


def check_threshold(threshold: float) -> None:
    """Raises InputError where no cosine similarity can be compared with it."""
    if not -1 <= threshold <= 1:
        nearest_valid = max(-1.0, min(1.0, threshold))
        raise InputError(
            f"threshold={threshold} is no cosine similarity: it lies in [-1, 1]. The nearest is "
            f"threshold={nearest_valid:g}."
        )
