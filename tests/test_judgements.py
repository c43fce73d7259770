"""Relevance by judgements: exact ranks without junk, by every engine, against a plain loop."""

from collections.abc import Iterator

import numpy as np
import pytest

from lookalike.data.judgements import Judgements
from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.evaluation.metrics import values_of
from lookalike.retrieval import counting, ranks
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines, Name
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.ranks import rank_relevant
from lookalike.retrieval.relevance import Judged
from lookalike.retrieval.rerank import NoReranking

QUERIES, ITEMS = 13, 250


def sets(seed: int) -> tuple[Embeddings, Embeddings, Judgements]:
    """Queries and a gallery in turn with many ties or few, and judgements that overlap: an item
    answers one query and is junk for another; a query is in the gallery, and one has no answer."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(QUERIES + ITEMS, 6))
    vectors = np.sign(vectors) if seed % 2 else vectors
    vectors[40:60] = vectors[2]  # copies of a query
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = rng.permutation(1000)[: QUERIES + ITEMS]
    everything = Embeddings(vectors, np.zeros(len(ids), np.int64), ids)
    queries, gallery = everything[:QUERIES], everything[QUERIES - 1 :]
    drawn = [rng.permutation(gallery.ids[1:])[:40] for _ in range(QUERIES)]
    relevant = [own[: rng.integers(1, 30)].tolist() for own in drawn]
    relevant[3] = []
    junk = [own[30:].tolist() for own in drawn]
    return queries, gallery, Judgements.of_lists(queries.ids.tolist(), relevant, junk)


def slow_ranks(
    queries: Embeddings, gallery: Embeddings, judged: Judgements
) -> dict[int, list[int]]:
    """By sorting one list for each query, ties against it."""
    found = {}
    for number, query in enumerate(queries.ids):
        own = judged.queries == query
        right = set(judged.items[own & judged.relevant])
        junk = {*judged.items[own & ~judged.relevant], query}
        ranking = []
        for row, item in enumerate(gallery.ids):
            if item not in junk:
                cosine = float(
                    queries.vectors[number].astype(float) @ gallery.vectors[row].astype(float)
                )
                ranking.append((-np.float32(cosine), item in right))
        ranking.sort()
        found[number] = [rank for rank, (_, hit) in enumerate(ranking, 1) if hit]
    return found


def fast_ranks(
    queries: Embeddings, gallery: Embeddings, judged: Judgements, depth: int | None, engine: Name
) -> dict[int, list[int]]:
    pairs = Judged.of(judged, queries, gallery)
    wanted = None if depth is None else np.full(len(queries), depth)
    found: dict[int, list[int]] = {}
    for rows, block in rank_relevant(queries, gallery, wanted, Engines(engine), pairs):
        assert block.n_relevant.tolist() == pairs.count()[rows].tolist()
        for place, row in enumerate(rows.tolist()):
            found[row] = block.rank[block.query == place].tolist()
    return found


@pytest.mark.parametrize("engine", ["faiss", "bounded"])
@pytest.mark.parametrize("seed", range(6))
def test_ranks_equal_a_plain_loop(seed: int, engine: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "TILE", 5)  # several blocks
    monkeypatch.setattr(ranks, "PLACES", 64)
    monkeypatch.setattr(ranks, "SHALLOW", 20)
    monkeypatch.setattr(counting, "DENSE", 0.3)
    queries, gallery, judged = sets(seed)
    expected = slow_ranks(queries, gallery, judged)
    assert expected[3] == []
    assert fast_ranks(queries, gallery, judged, None, engine) == expected
    near = fast_ranks(queries, gallery, judged, 10, engine)
    for row, found in expected.items():
        assert [rank for rank in near[row] if rank <= 10] == [rank for rank in found if rank <= 10]


def test_every_metric_of_judged_queries() -> None:
    queries, gallery, judged = sets(0)
    expected = slow_ranks(queries, gallery, judged)
    pairs = Judged.of(judged, queries, gallery)
    whole = values_of(queries, gallery, (1, 5), whole_ranking=True, judged=pairs)
    near = values_of(queries, gallery, (1, 5), whole_ranking=False, judged=pairs)
    again = values_of(
        queries, gallery, (1, 5), True, judged=pairs,
        search=lambda gallery, queries, k: NoReranking()(gallery, queries, k, queries),
    )  # fmt: skip
    blocks = values_of(queries, gallery, (1, 5), False, judged=pairs, search=four_at_a_time)
    for row, found in expected.items():
        if not found:
            assert np.isnan([column[row] for column in whole.values()]).all()
            continue
        average = np.mean([place / rank for place, rank in enumerate(found, 1)])
        assert whole["map"][row] == pytest.approx(average)
        within = [place / rank for place, rank in enumerate(found, 1) if rank <= len(found)]
        assert whole["map_at_r"][row] == pytest.approx(sum(within) / len(found))
        assert whole["recall_at_5"][row] == float(min(found) <= 5)
    for name, column in near.items():
        np.testing.assert_array_equal(column, whole[name])
    for name, column in (*again.items(), *blocks.items()):
        np.testing.assert_array_equal(column, whole[name])


def four_at_a_time(gallery: Gallery, queries: Embeddings, k: int) -> Iterator[Neighbours]:
    """A search in several blocks of queries, the last one smaller."""
    for start in range(0, len(queries), 4):
        yield from gallery.search(queries[start : start + 4], k)


def test_a_search_is_asked_for_what_is_left_out_as_well_and_not_for_more() -> None:
    vectors = np.eye(9, dtype=np.float32)
    everything = Embeddings(vectors, np.zeros(9, np.int64), np.arange(9))
    queries, gallery = everything[:2], everything[2:]
    asked: list[int] = []

    def search(gallery: Gallery, queries: Embeddings, k: int) -> Iterator[Neighbours]:
        asked.append(k)
        return gallery.search(queries, k)

    for junk in ([[], []], [[], [5, 6]], [[3, 4, 5, 6, 7, 8], []]):
        said = Judgements.of_lists([0, 1], [[2], [3, 4]], junk)
        pairs = Judged.of(said, queries, gallery)
        values_of(queries, gallery, (1,), False, search=search, judged=pairs)
    assert asked == [2, 2 + 2, 7]  # at most the whole gallery
    nobody = queries[:0]
    pairs = Judged.of(said, nobody, gallery)
    none = values_of(nobody, gallery, (1,), False, search=search, judged=pairs)
    assert {column.shape for column in none.values()} == {(0,)}


def test_records_keep_their_judgements_when_rows_are_dropped() -> None:
    said = Judgements.of_lists([0, 1], [[2, 3], [4]], [[4], [2]], "hard")
    records = Records.create(list("abcde"), ["x"] * 5, judgements=[said])
    (kept,) = records.at(np.array([0, 3, 4])).judgements
    assert kept.name == "hard"
    assert list(zip(kept.queries, kept.items, kept.relevant, strict=True)) == [
        (0, 1, True), (0, 2, False),
    ]  # fmt: skip


def test_an_image_that_is_right_and_junk_is_refused() -> None:
    with pytest.raises(InputError, match="image 4 is judged twice for query 1"):
        Judgements.of_lists([1], [[3, 4]], [[4]])
