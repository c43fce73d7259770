"""Search in an index with the answers of a search in a gallery: both measures, the classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.inference.asking import Question, ask, kept_rows, narrowed
from lookalike.inference.combining import combined
from lookalike.inference.embedding_items import normalised
from lookalike.inference.index import Index
from lookalike.inference.items import OWN, records_of
from lookalike.inference.lookup import Match, merged
from lookalike.inference.network import Network
from lookalike.inference.search import SearchResults
from lookalike.retrieval.arrow import numbers, taken
from lookalike.retrieval.faiss_flat import lengths_of

Features = NDArray[np.float32]


def search_index(
    index: Index,
    queries: Records,
    features: Features,
    places: Sequence[str | None],
    question: Question,
) -> SearchResults:
    """The nearest images of every query, by cosine and, where all are compared and nothing reorders
    them, by Euclidean distance.

    Args:
        index: that is searched.
        queries: an image of the index that asks does not find itself.
        features: (Q, D) of the queries, not normalised.
        places: of each query the class that is searched, None for all.
        question: what is asked of all.
    """
    store = index.store
    own: Sequence[Collection[int]] = _own(index, queries)
    hits = ask(store, normalised(features), question, places, own)
    ranks = [{hit.id: hit.rank for hit in each} for each in hits]
    by_distance: list[dict[int, int]] = [{} for _ in ranks]
    if not (question.rerank or question.fold_duplicates) and not store.generation.faiss:
        by_distance = _by_distance(index, features, places, question, own)
    found = [
        merged(feature, *_features(index, near, close), question.threshold)
        for feature, near, close in zip(features, ranks, by_distance, strict=True)
    ]
    return _results(index, queries, places, found)


def together(queries: Records, features: Features, negatives: Features) -> tuple[Records, Features]:
    """All queries as one, under the name of the first; and away from negatives.

    Args:
        queries: of one thing.
        features: (Q, D) of these, not normalised.
        negatives: (M, D), likewise.
    """
    vector = combined(normalised(features), normalised(negatives) if len(negatives) else None)
    length = np.float32(lengths_of(features).mean())
    return queries.at(np.zeros(1, np.int64)), vector[None] * length


def check_same_network(about: Mapping[str, Any], network: Network) -> None:
    """Raises InputError where a network is not that of an index.

    Args:
        about: what the index is, see `Index.info`.
        network: that embeds the queries.
    """
    if network.fingerprint != about["fingerprint"]:
        raise InputError(
            f"{network.name} is not the network of {about['path']} ({about['network']}), so their "
            "vectors can't be compared. Leave out checkpoint=, or build an index with it: "
            "lookalike index build checkpoint=..."
        )


def _own(index: Index, queries: Records) -> list[set[int]]:
    whole = [queries.boxes is None or not any(queries.boxes[row]) for row in range(len(queries))]
    paths = [
        path if entire else b"" for path, entire in zip(queries.paths.tolist(), whole, strict=True)
    ]
    return index.own_ids(paths)


def _by_distance(
    index: Index,
    features: Features,
    places: Sequence[str | None],
    question: Question,
    own: Sequence[Collection[int]],
) -> list[dict[int, int]]:
    """id -> rank of each query."""
    store = index.store
    kept = kept_rows(store, question.where)
    depth = question.k + max(map(len, own), default=0)
    ranks: list[dict[int, int]] = [{} for _ in places]
    for place in set(places):
        some = [row for row, other in enumerate(places) if other == place]
        rows, _ = store.closest(features[some], depth, narrowed(store, kept, place))
        for row, line in zip(some, rows, strict=True):
            ids = [number for number in store.ids[line].tolist() if number not in own[row]]
            ranks[row] = {number: rank for rank, number in enumerate(ids[: question.k], 1)}
    return ranks


def _features(
    index: Index, near: dict[int, int], close: dict[int, int]
) -> tuple[NDArray[np.int64], Features, dict[int, int], dict[int, int]]:
    """What `merged` takes: rows, their features, and ranks by row."""
    ids = np.array(list(near | close), np.int64)
    rows = index.store.rows_of(ids)
    lengths = numbers(index.items["length"])[rows]
    row_of = dict(zip(ids.tolist(), rows.tolist(), strict=True))
    ranks = [{row_of[number]: rank for number, rank in each.items()} for each in (near, close)]
    return rows, index.store.vectors[rows] * lengths[:, None], ranks[0], ranks[1]


def _results(
    index: Index,
    queries: Records,
    places: Sequence[str | None],
    found: Sequence[Sequence[Match]],
) -> SearchResults:
    """With records of what was found alone."""
    rows = sorted({match.row for each in found for match in each})
    place = {row: number for number, row in enumerate(rows)}
    moved = [[replace(match, row=place[match.row]) for match in each] for each in found]
    if not rows:
        return SearchResults(queries, queries, places, moved)
    items = taken(index.items, np.array(rows, np.int64))
    details = [
        {name: value for name, value in item.items() if name == "id" or name not in OWN.names}
        for item in items.to_pylist()
    ]
    return SearchResults(queries, records_of(items, index.root), places, moved, details)
