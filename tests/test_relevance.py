"""What answers a query and what is left out, by labels and by judgements, against loops."""

import numpy as np
import pytest

from lookalike.data.judgements import Judgements
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.relevance import ByLabel, Judged, rows_of

RNG = np.random.default_rng(0)
GALLERY = Embeddings(
    np.zeros((30, 2), np.float32), RNG.integers(0, 4, 30), RNG.permutation(99)[:30],
    RNG.integers(0, 9, 30),
)  # fmt: skip
QUERIES = Embeddings(
    np.zeros((8, 2), np.float32), RNG.integers(0, 4, 8),
    np.concatenate([GALLERY.ids[:3], np.arange(100, 105)]), RNG.integers(0, 9, 8),
)  # fmt: skip
EVERY = tuple(np.array(pairs) for pairs in zip(*np.ndindex(8, 30), strict=True))
JUDGEMENTS = Judgements.of_lists(
    QUERIES.ids[[0, 1, 3, 6]].tolist(),
    [GALLERY.ids[[4, 0, 9]].tolist(), [], [*GALLERY.ids[[1, 2]].tolist(), 777], [888]],
    [[GALLERY.ids[7].item()], GALLERY.ids[[8, 5]].tolist(), [], GALLERY.ids[[2]].tolist()],
)


def test_rows_of_ids() -> None:
    among = np.array([30, 10, 20])
    assert rows_of(np.array([10, 20, 30, 5, 25, 35]), among).tolist() == [1, 2, 0, -1, -1, -1]
    assert rows_of(np.array([1, 2]), np.zeros(0, np.int64)).tolist() == [-1, -1]
    assert rows_of(np.zeros(0, np.int64), among).tolist() == []


def test_by_label_equals_a_loop() -> None:
    relevance = ByLabel.of(QUERIES, GALLERY)
    ranked, relevant = (each.reshape(8, 30) for each in relevance.of_pairs(*EVERY))
    for query, row in np.ndindex(8, 30):
        assert ranked[query, row] == (QUERIES.exclusion_ids[query] != GALLERY.exclusion_ids[row])
        assert relevant[query, row] == (QUERIES.labels[query] == GALLERY.labels[row])
    own = GALLERY.exclusion_ids == QUERIES.exclusion_ids[:, None]
    same = GALLERY.labels == QUERIES.labels[:, None]
    assert relevance.count().tolist() == (same.sum(1) - own.sum(1)).tolist()
    assert relevance.left_out() == np.bincount(GALLERY.exclusion_ids).max()
    rows = np.array([5, 0, 5])
    some = relevance.at(rows)
    assert some.count().tolist() == relevance.count()[rows].tolist()
    query, row = np.repeat([0, 1, 2], 30), np.tile(np.arange(30), 3)
    for found, whole in zip(some.of_pairs(query, row), (ranked, relevant), strict=True):
        np.testing.assert_array_equal(found.reshape(3, 30), whole[rows])
    assert some.left_out() == relevance.left_out()


def expected() -> np.ndarray:
    """By pair: 1 where an item answers a query, -1 where it is left out."""
    table = np.zeros((8, 30), int)
    for query, row in np.ndindex(8, 30):
        here = (JUDGEMENTS.queries == QUERIES.ids[query]) & (JUDGEMENTS.items == GALLERY.ids[row])
        if QUERIES.ids[query] == GALLERY.ids[row]:
            table[query, row] = -1
        elif here.any():
            table[query, row] = 1 if JUDGEMENTS.relevant[here][0] else -1
    return table


@pytest.mark.parametrize("rows", [None, [3, 0, 7, 3], []])
def test_by_judgements_equals_a_loop(rows: list[int] | None) -> None:
    relevance = Judged.of(JUDGEMENTS, QUERIES, GALLERY)
    table = expected()
    assert (table == 1).sum() == 4
    assert (table == -1).sum() == 7  # three are queries themselves
    if rows is not None:
        relevance, table = relevance.at(np.array(rows, np.int64)), table[rows]
    query, row = np.repeat(np.arange(len(table)), 30), np.tile(np.arange(30), len(table))
    ranked, relevant = relevance.of_pairs(query, row)
    assert ranked.dtype == relevant.dtype == bool
    np.testing.assert_array_equal(ranked, table.ravel() >= 0)
    np.testing.assert_array_equal(relevant, table.ravel() == 1)
    assert relevance.count().tolist() == (table == 1).sum(1).tolist()
    assert relevance.left_out().tolist() == (table == -1).sum(1).tolist()
    assert relevance.sizes == (len(table), 30)
    order = relevance.query * 30 + relevance.row
    assert np.all(np.diff(order) > 0)
