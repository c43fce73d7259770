"""FAISS's inverted lists by themselves: how they are made, filled, written and searched."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lookalike.errors import InputError
from lookalike.retrieval import inverted, inverted_search, probing
from lookalike.retrieval.faiss_flat import import_faiss
from lookalike.retrieval.inverted import (
    cells_for,
    check_kind,
    fill,
    probe_steps,
    read_faiss,
    trained,
    without,
    write_faiss,
)
from lookalike.retrieval.inverted_search import InvertedSearch, _ranked_alone
from lookalike.retrieval.probing import Probing

Vectors = np.ndarray


def vectors_of(seed: int, count: int, dimensions: int = 12) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def ids_in(index: Any) -> list[int]:
    sizes = [index.invlists.list_size(cell) for cell in range(index.nlist)]
    parts = [
        import_faiss().rev_swig_ptr(index.invlists.get_ids(cell), size).copy()
        for cell, size in enumerate(sizes)
        if size
    ]
    return sorted(np.concatenate(parts).tolist())


def test_an_unknown_structure_is_told_in_full() -> None:
    for kind in ("auto", "flat", "ivf", "ivfpq"):
        check_kind(kind)
    with pytest.raises(InputError) as caught:
        check_kind("ivfp")
    assert str(caught.value) == (
        "an index is one of auto, flat, ivf, ivfpq, not ivfp. Did you mean ivfpq or ivf?"
    )


@pytest.mark.parametrize(
    ("rows", "lists", "cells"),
    [(10_000, None, 256), (40_000, None, 800), (1000, None, 25), (1000, 7, 7), (1000, 99, 25)],
)
def test_cells_hold_at_least_39_vectors_each(rows: int, lists: int | None, cells: int) -> None:
    assert cells_for(rows, lists) == cells


@pytest.mark.parametrize(
    ("dimensions", "size"), [(1280, 320), (12, 3), (10, 2), (7, 1), (3, 1), (4, 1), (9, 1), (27, 3)]
)
def test_bytes_of_a_code(dimensions: int, size: int) -> None:
    assert inverted._codes(dimensions) == size


@pytest.mark.parametrize(
    ("lists", "steps"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_probes_that_are_tried(lists: int, steps: list[int]) -> None:
    assert list(probe_steps(lists)) == steps


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_lists_are_of_the_kind_that_was_asked_for(kind: str) -> None:
    faiss = import_faiss()
    vectors = vectors_of(0, 900)
    index = trained(vectors, kind, 9)
    assert type(index) is (faiss.IndexIVFFlat if kind == "ivf" else faiss.IndexIVFPQ)
    assert (index.nlist, index.d, index.ntotal) == (9, 12, 0)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    if kind == "ivfpq":
        assert (index.pq.M, index.pq.nbits) == (3, 8)
    assert trained(vectors, kind).nlist == 23
    again = trained(vectors, kind, 9)
    first, second = (faiss.downcast_index(each.quantizer) for each in (index, again))
    np.testing.assert_array_equal(
        first.reconstruct_n(0, 9), second.reconstruct_n(0, 9)
    )  # the sample is always the same


def test_centroids_are_trained_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = import_faiss()
    seen = []

    class Flat(faiss.IndexIVFFlat):
        def train(self, vectors: Vectors) -> None:
            seen.append(vectors)

    monkeypatch.setattr(faiss, "IndexIVFFlat", Flat)
    vectors = vectors_of(0, 30_000, 2)
    trained(vectors, "ivf", 100)
    trained(vectors, "ivf", 300)
    trained(vectors[:900], "ivf", 9)
    assert [len(each) for each in seen] == [256 * 64, 64 * 300, 900]  # enough for the cells
    trained(vectors, "ivf", 100)
    np.testing.assert_array_equal(seen[0], seen[3])  # the same sample each time
    rows = {tuple(vector): row for row, vector in enumerate(vectors.tolist())}
    assert len(rows) == 30_000
    chosen = [rows[tuple(vector)] for vector in seen[0].tolist()]
    assert np.all(np.diff(chosen) > 0)  # each once, in order
    assert 0.4 < np.mean(chosen) / 30_000 < 0.6


@pytest.mark.parametrize("at_once", [2**16, 7])
def test_lists_are_filled_emptied_written_and_read(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted, "ADDED_AT_ONCE", at_once)
    vectors, ids = vectors_of(0, 400), np.arange(400) * 3 + 5
    index = trained(vectors, "ivf", 4)
    fill(index, vectors[::2], ids[::2])
    fill(index, np.asfortranarray(vectors[1::2]), ids[1::2])
    assert ids_in(index) == ids.tolist()
    without(index, ids[:0])
    without(index, np.append(ids[10:13], 1))  # which it does not have
    left = [each for row, each in enumerate(ids.tolist()) if row not in (10, 11, 12)]
    assert ids_in(index) == left
    write_faiss(tmp_path / "x.index", index)
    mapped, loaded = (read_faiss(tmp_path / "x.index", mapped=flag) for flag in (True, False))
    assert ids_in(mapped) == ids_in(loaded) == ids_in(read_faiss(tmp_path / "x.index")) == left
    lists = import_faiss().downcast_InvertedLists(mapped.invlists)
    assert lists.prefetch_nthread == 0
    loaded.nprobe = 4
    assert loaded.search(vectors[20:21], 1)[1].tolist() == [[ids[20]]]
    without(loaded, ids[20:21])
    assert len(ids_in(loaded)) == 396
    assert [each.name for each in tmp_path.iterdir()] == ["x.index"]
    (tmp_path / "x.index").write_bytes(b"something else")
    with pytest.raises(InputError) as caught:
        read_faiss(tmp_path / "x.index")
    start = f"{tmp_path / 'x.index'} can't be read as an index of FAISS ("
    assert str(caught.value).startswith(start)
    assert not str(caught.value).startswith((f"{start})", f"{start}None)"))
    assert str(caught.value).endswith(
        f"). Build it again: lookalike index tune index={tmp_path} kind=flat"
    )


def searched(
    count: int = 300, kind: str = "ivf", covered: int | None = None
) -> tuple[InvertedSearch, Vectors, np.ndarray]:
    """Lists that hold the first of some vectors, whose ids have gaps."""
    vectors, ids = vectors_of(0, count), np.arange(count) * 2 + 1
    index = trained(vectors, kind, 5)
    covered = int(ids[-1]) + 1 if covered is None else covered
    fill(index, vectors[ids < covered], ids[ids < covered])
    structure = {"covered": covered, "kind": kind, "probes": 5}
    return InvertedSearch(index, vectors, ids, structure), vectors, ids


def exactly(vectors: Vectors, queries: Vectors, rows: np.ndarray, k: int) -> list[list[int]]:
    scores = (queries.astype(float) @ vectors[rows].T.astype(float)).astype(np.float32)
    return rows[np.argsort(-scores, axis=1, kind="stable")[:, :k]].tolist()


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("covered", [None, 401, 1, 0])
@pytest.mark.parametrize("few", [0, 40, 10_000])
@pytest.mark.parametrize("filtered", [None, 0.5, 0.1, 0.0])
def test_all_lists_find_what_comparing_all_finds(
    count: int, covered: int | None, few: int, filtered: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(inverted_search, "FEW", few)
    search, vectors, ids = searched(covered=covered)
    assert search.listed == (300 if covered is None else int((ids < covered).sum()))
    queries = vectors_of(1, count)
    kept = None if filtered is None else np.random.default_rng(2).random(300) < filtered
    rows = np.arange(300) if kept is None else np.flatnonzero(kept)
    for k in (1, 7, 400):
        found, scores = search.nearest(queries, k, kept)
        assert found.tolist() == exactly(vectors, queries, rows, k)
        expected = np.take_along_axis(queries.astype(float) @ vectors.T.astype(float), found, 1)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        assert scores.dtype == np.float32


def test_few_items_are_compared_without_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    search, _, _ = searched()
    queries, asked = vectors_of(1, 2), []
    candidates = search._probing.candidates
    monkeypatch.setattr(
        search._probing, "candidates", lambda *given: asked.append(given[2]) or candidates(*given)
    )
    for few, kept, lists in (
        (299, None, True), (300, None, False), (99, np.arange(300) < 100, True),
        (100, np.arange(300) < 100, False),
    ):  # fmt: skip
        monkeypatch.setattr(inverted_search, "FEW", few)
        asked.clear()
        search.nearest(queries, 3, kept)
        assert bool(asked) == lists
    monkeypatch.setattr(inverted_search, "FEW", 0)
    asked.clear()
    search.nearest(queries, 3)
    search.nearest(queries, 3, probes=2)
    search.nearest(queries, 0)
    assert asked == [5, 2]


def test_queries_for_which_the_lists_hold_too_few_are_compared_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inverted_search, "FEW", 0)
    search, vectors, _ = searched()
    queries = vectors_of(1, 6)
    sizes = [search.index.invlists.list_size(cell) for cell in range(5)]
    nearest_cell = search.index.quantizer.search(queries, 1)[1][:, 0]
    k = max(sizes[cell] for cell in nearest_cell)  # other queries look at fewer
    found, scores = search.nearest(queries, k, probes=1)
    assert np.all(found >= 0)
    exact = exactly(vectors, queries, np.arange(300), k)
    same = [line == other for line, other in zip(found.tolist(), exact, strict=True)]
    short = [sizes[cell] < k for cell in nearest_cell]
    assert any(short)
    assert not all(short)
    assert all(line for line, is_short in zip(same, short, strict=True) if is_short)
    assert not all(same)
    assert np.all(np.diff(scores, axis=1) <= 0)


def test_one_query_is_ranked_as_many_are() -> None:
    vectors, query = vectors_of(0, 30), vectors_of(1, 1)[0]
    vectors[[4, 9]] = vectors[2]
    rows = np.array([9, 4, -1, 2, 20, 21, 29, -1])
    order = exactly(vectors, query[None], np.array([2, 4, 9, 20, 21, 29]), 6)[0]
    for k in (1, 3, 6, 8):
        found, scores = _ranked_alone(query, vectors, rows, k)
        assert found.tolist() == [([*order, -1, -1])[:k]]
        assert scores.dtype == np.float32
        assert scores.shape == (1, k)
        exact = vectors[found[0, : min(k, 6)]].astype(float) @ query.astype(float)
        np.testing.assert_allclose(scores[0, :6], exact, atol=1e-7)
        assert np.all(scores[0, 6:] == -np.inf)


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_candidates_are_more_than_asked_for(kind: str) -> None:
    search, vectors, ids = searched(kind=kind)
    probing_of = Probing(search.index, vectors, ids, kind == "ivfpq")
    queries = vectors_of(1, 3)
    rows = probing_of.candidates(np.asfortranarray(queries), 4, 5)
    assert rows.shape == (3, 8)
    assert np.all(rows >= 0)
    best = exactly(vectors, queries, np.arange(300), 4)
    shared = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), best, strict=True)]
    assert shared == [4] * 3 if kind == "ivf" else min(shared) >= 3
    kept = np.arange(10, 40)
    few = probing_of.candidates(queries, 4, 99, kept)  # more cells than there are
    assert np.isin(few, kept).all()
    assert probing_of.candidates(queries, 400, 5, kept[:2])[0].tolist().count(-1) > 300
    assert np.all(probing_of.candidates(queries, 4, 5)[:, 0] >= 0)  # of all again


def test_parameters_are_made_once_for_as_many_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    search, vectors, ids = searched()
    made, asked = [], []
    parameters = import_faiss().SearchParametersIVF

    def counted(**given: Any) -> Any:
        made.append(given)
        return parameters(**given)

    monkeypatch.setattr(import_faiss(), "SearchParametersIVF", counted)

    plain = getattr(search.index, "search_numpy", search.index.search)

    def counted_search(queries: Vectors, count: int, params: Any) -> Any:
        asked.append(count)
        return plain(queries, count, params=params)

    # as faiss.contrib.torch_utils leaves an index behind
    index = SimpleNamespace(nlist=5, search_numpy=counted_search, search=None)
    probing_of = Probing(index, vectors, ids, False)
    for probes in (2, 2, 99, 99):
        probing_of.candidates(vectors_of(1, 1), 3, probes)
    assert made == [{"nprobe": 2}, {"nprobe": 5}]
    assert asked == [7] * 4
    probing_of.candidates(vectors_of(1, 1), 3, 2, np.array([4]))
    assert made[2:] == [{"nprobe": 2}]  # its own, which has a filter
    without = SimpleNamespace(nlist=5, search=counted_search)
    assert Probing(without, vectors, ids, False).candidates(vectors, 3, 2).shape == (300, 7)
    coded = Probing(index, vectors, ids, True)
    assert coded.candidates(vectors_of(1, 1), 3, 2).shape == (1, 7)
    assert asked[-1] == 16 * 3 + 4


def test_a_selector_lets_its_ids_pass() -> None:
    for ids in ([0], [3, 8, 9], [7, 15, 16, 64]):
        selector = probing._selector(np.array(ids))
        assert [each for each in range(80) if selector.is_member(each)] == ids
    assert not probing._selector(np.zeros(0, np.int64)).is_member(0)
