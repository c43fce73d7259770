"""Search in an index whose vectors are in a database: by cosine similarity alone."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.inference.asking import Question
from lookalike.inference.database_index import DatabaseIndex
from lookalike.inference.embedding_items import normalised
from lookalike.inference.items import OWN, records_of
from lookalike.inference.lookup import Match
from lookalike.inference.search import SearchResults
from lookalike.retrieval.faiss_flat import lengths_of

Features = NDArray[np.float32]


def search_database(
    index: DatabaseIndex,
    queries: Records,
    features: Features,
    places: Sequence[str | None],
    question: Question,
) -> SearchResults:
    """The nearest images of every query.

    Args:
        index: that is searched.
        queries: an image of the index that asks does not find itself.
        features: (Q, D) of the queries, not normalised.
        places: of each query the class that is searched, None for all.
        question: what is asked of all; it may neither fold duplicates nor reorder.
    """
    if question.fold_duplicates or question.rerank:
        raise InputError(
            "fold_duplicates= and rerank= need the vectors of the index, and these are in "
            f"{index.place}. Leave them out."
        )
    ids = np.full((len(queries), question.k + 1), -1, np.int64)
    scores = np.full(ids.shape, -np.inf, np.float32)
    vectors = normalised(features)
    for place in set(places):
        some = [row for row, other in enumerate(places) if other == place]
        found = index.store.search(vectors[some], question.k + 1, _where(question.where, place))
        ids[some], scores[some] = found
    items = _items(index, np.unique(ids[ids >= 0]))
    if not items.num_rows:
        return SearchResults(queries, queries, places, [[] for _ in places])
    row_of = {number: row for row, number in enumerate(items["id"].to_pylist())}
    matches = [
        _matches(query, items, row_of, features[row], ids[row], scores[row], question)
        for row, query in enumerate(queries.paths.tolist())
    ]
    details = [
        {name: value for name, value in item.items() if name == "id" or name not in OWN.names}
        for item in items.to_pylist()
    ]
    return SearchResults(queries, records_of(items), places, matches, details)


def _matches(
    query: str,
    items: pa.Table,
    row_of: dict[int, int],
    feature: Features,
    ids: NDArray[np.int64],
    scores: Features,
    question: Question,
) -> list[Match]:
    own, length = os.path.abspath(query), float(lengths_of(feature[None])[0])
    found = []
    for number, score in zip(ids.tolist(), scores.tolist(), strict=True):
        row = row_of.get(number, -1)
        if row < 0 or score < question.threshold or items["path"][row].as_py() == own:
            continue
        other = items["length"][row].as_py()
        squared = length**2 + other**2 - 2 * length * other * score
        rank = len(found) + 1
        found.append(Match(row, score, max(0.0, squared) ** 0.5, rank, None))
    return found[: question.k]


def _items(index: DatabaseIndex, ids: NDArray[np.int64]) -> pa.Table:
    """What the database knows of items, lookalike's own columns with their types."""
    found = index.store.items(ids)
    if not found.num_rows:
        return OWN.empty_table()
    rest = [name for name in found.column_names if name not in OWN.names]
    nothing = pa.nulls(found.num_rows)
    every = {
        **dict.fromkeys(OWN.names, nothing),
        **dict(zip(found.column_names, found, strict=True)),
    }
    own = {field.name: every[field.name].cast(field.type) for field in OWN}
    return pa.table(own | {name: found[name] for name in rest})


def _where(where: str | None, place: str | None) -> str | None:
    """A filter, of one class only."""
    if place is None:
        return where
    of_class = "class == '{}'".format(place.replace("'", "''"))
    return of_class if where is None else f"({where}) and {of_class}"
