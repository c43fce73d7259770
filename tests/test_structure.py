"""What FAISS's file in an index holds after every change, and when it is made anew."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval import inverted, inverted_search, structure
from lookalike.retrieval.faiss_flat import import_faiss
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.inverted import chosen_kind
from lookalike.retrieval.probing import Probing

Vectors = np.ndarray


def vectors_of(seed: int, count: int, dimensions: int = 12) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def table_of(ids: np.ndarray) -> pa.Table:
    return pa.table({"number": ids})


def listed(store: FaissFolder) -> set[int]:
    """Ids in FAISS's file."""
    assert store.lists is not None
    index = store.lists.index
    cells = range(index.nlist)
    sizes = [index.invlists.list_size(cell) for cell in cells]
    ids = [
        import_faiss().rev_swig_ptr(index.invlists.get_ids(cell), size).copy()
        for cell, size in zip(cells, sizes, strict=True)
        if size
    ]
    return set(np.concatenate(ids).tolist())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaissFolder:
    """600 vectors in inverted lists, all of which are looked at."""
    monkeypatch.setattr(inverted, "FEW", 300)
    monkeypatch.setattr(inverted_search, "FEW", 50)
    monkeypatch.setattr(structure, "FIRST_PROBES", 10_000)
    monkeypatch.setattr(structure, "BESIDE_AT_LEAST", 5)
    store = FaissFolder.create(tmp_path / "store", 12, "ivf")
    store.add(np.arange(600), vectors_of(0, 600), table_of(np.arange(600)))
    with store.alone():
        store.restructure(probes=store.generation.structure["cells"])
    return store


@pytest.mark.parametrize(
    ("wanted", "rows", "kind"),
    [
        ("auto", 10, "flat"), ("auto", 1_000_000, "flat"), ("auto", 1_000_001, "ivf"),
        ("auto", 20_000_000, "ivf"), ("auto", 20_000_001, "ivfpq"),
        ("ivf", 20_000, "flat"), ("ivf", 20_001, "ivf"), ("ivfpq", 20_001, "ivfpq"),
        ("flat", 10**8, "flat"),
    ],
)  # fmt: skip
def test_the_structure_follows_the_number_of_items(wanted: str, rows: int, kind: str) -> None:
    assert chosen_kind(wanted, rows) == kind


def test_a_new_index_compares_all(tmp_path: Path) -> None:
    said = FaissFolder.create(tmp_path / "s", 12, "ivf").generation
    assert said.structure == {"wanted": "ivf", "kind": "flat", "lists": None}
    assert (said.faiss, said.number, said.rows, said.next_id) == (None, 1, 0, 0)
    with pytest.raises(InputError, match=r"not ivv\. Did you mean ivf"):
        FaissFolder.create(tmp_path / "t", 12, "ivv")


def test_another_number_of_probes_needs_no_other_file(store: FaissFolder) -> None:
    before = store.generation
    with store.alone():
        store.restructure(probes=3)
    assert store.generation.faiss == before.faiss
    assert store.generation.structure == {**before.structure, "probes": 3}
    with store.alone():
        store.restructure(wanted="flat")
    assert store.generation.faiss is None
    assert store.generation.structure["kind"] == "flat"
    assert not list(store.folder.glob("faiss-*"))
    with store.alone():
        store.restructure(wanted="ivf")
    assert store.generation.structure == {**before.structure, "probes": 3}  # which `tune` chose


def test_lists_that_were_asked_for_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted, "FEW", 300)
    store = FaissFolder.create(tmp_path / "s", 12, "ivf")
    with store.alone():
        store.restructure(lists=7)
    store.add(np.arange(600), vectors_of(0, 600), table_of(np.arange(600)))
    said = store.generation.structure
    assert said == {
        "wanted": "ivf", "kind": "ivf", "lists": 7, "cells": 7, "trained": 600,
        "probes": structure.FIRST_PROBES, "covered": 600,
    }  # fmt: skip
    assert store.lists is not None
    assert store.lists.index.nlist == 7
    with store.alone():
        store.restructure(lists=3)
    assert store.lists.index.nlist == 3


@pytest.mark.filterwarnings("ignore")
def test_another_structure_leaves_no_file_of_the_old_one(store: FaissFolder) -> None:
    before = store.generation.faiss
    with store.alone():
        store.restructure(wanted="ivfpq")
    (file,) = store.folder.glob("faiss-*")
    assert file.name == store.generation.faiss != before
    assert before not in store.generation.files
    assert type(store.lists.index).__name__ == "IndexIVFPQ"  # type: ignore[union-attr]
    assert listed(store) == set(range(600))


def test_an_index_that_has_become_small_compares_all_again(store: FaissFolder) -> None:
    store.remove(np.arange(300))
    assert store.generation.structure["kind"] == "flat"
    assert store.generation.faiss is None
    assert store.lists is None
    assert not list(store.folder.glob("faiss-*"))
    assert store.search(vectors_of(0, 600)[400:401], 1)[0].tolist() == [[400]]


def test_few_new_items_stand_beside_the_file(store: FaissFolder) -> None:
    first = store.generation
    assert first.structure["covered"] == 600
    store.add(np.arange(600, 612), vectors_of(1, 12), table_of(np.arange(600, 612)))
    assert store.generation.faiss == first.faiss  # 2 % of 612 are 12
    assert listed(store) == set(range(600))
    store.add(np.array([700]), vectors_of(2, 1), table_of(np.array([700])))
    assert store.generation.faiss != first.faiss
    assert listed(store) == {*range(612), 700}
    said = store.generation.structure
    assert said == {**first.structure, "covered": 701}  # its centroids are not trained again
    for query, number in ((vectors_of(1, 12)[3], 603), (vectors_of(2, 1)[0], 700)):
        assert store.search(query[None], 1)[0].tolist() == [[number]]


def test_as_many_as_may_stand_beside_the_file(
    store: FaissFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure, "BESIDE_AT_LEAST", 20)
    first = store.generation.faiss
    for start, count, stays in ((600, 20, True), (620, 1, False)):
        ids = np.arange(start, start + count)
        store.add(ids, vectors_of(start, count), table_of(ids))
        assert (store.generation.faiss == first) == stays


def test_what_left_or_changed_is_not_in_the_file(store: FaissFolder) -> None:
    store.remove(np.array([0, 599]))
    assert listed(store) == set(range(1, 599))
    other = vectors_of(3, 1)
    with store.alone():
        items = table_of(np.array([7])).add_column(0, "id", pa.array([7]))
        store.change(np.array([7]), items, [other])
    assert listed(store) == set(range(1, 599))
    assert store.search(other, 1)[0].tolist() == [[7]]
    assert store.items(np.array([1, 8])).column("number").to_pylist() == [1, 8]  # 1 is the first


def test_an_index_that_has_grown_a_lot_is_trained_again(store: FaissFolder) -> None:
    with store.alone():
        store.restructure(probes=5)
    cells = store.generation.structure["cells"]
    more = np.arange(600, 2400)
    store.add(more, vectors_of(4, 1800), table_of(more))
    assert store.generation.structure["trained"] == 600  # four times as many
    assert store.generation.structure["cells"] == cells
    store.add(np.arange(2400, 2401), vectors_of(5, 1), table_of(np.array([2400])))
    said = store.generation.structure
    assert said["trained"] == 2401
    assert said["cells"] > cells
    assert said["probes"] == 5
    assert listed(store) == set(range(2401))


@pytest.mark.parametrize("where", [None, "number < 100"])
def test_what_the_lists_lack_is_found_by_comparing_all(
    store: FaissFolder, where: str | None
) -> None:
    with store.alone():
        store.restructure(probes=1)  # of 15 lists
    k = 60 if where else 200
    queries = vectors_of(6, 5)
    exact = queries.astype(np.float64) @ store.vectors[: 100 if where else 600].T
    expected = np.argsort(-exact, axis=1)[:, :k]
    for some in (queries, queries[:1]):
        ids, scores = store.search(some, k, where)
        np.testing.assert_array_equal(ids, expected[: len(some)])
        found = np.take_along_axis(exact, expected, axis=1)[: len(some)]
        np.testing.assert_allclose(scores, found, atol=1e-6)


def test_candidates_are_those_with_the_highest_scores() -> None:
    vectors, queries = vectors_of(0, 40), vectors_of(1, 3)
    probing = Probing(None, vectors, np.arange(40), coded=True)
    rows = np.array([[0, 5, 9, 30, -1, 11], [39, 2, 7, -1, -1, -1], [1, 2, 3, 4, 5, 6]])
    found = probing._highest(queries, rows, 3)
    for query, some, chosen in zip(queries, rows, found, strict=True):
        there = some[some >= 0]
        best = there[np.argsort(-(vectors[there] @ query))[:3]]
        assert set(chosen.tolist()) == set(best.tolist())


@pytest.mark.parametrize("count", [1, 4, 29, 30])
def test_the_best_of_many_candidates(count: int) -> None:
    vectors, queries = vectors_of(0, 40), vectors_of(1, 5)
    rows = np.stack([np.random.default_rng(seed).permutation(40)[:30] for seed in range(5)])
    found = Probing(None, vectors, np.arange(40), coded=True)._highest(queries, rows, count)
    for query, some, chosen in zip(queries, rows, found, strict=True):
        best = some[np.argsort(-(vectors[some] @ query))[:count]]
        assert sorted(chosen.tolist()) == sorted(best.tolist())


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [0, 1, 3, 4], [0, 1, 2, 4], [2, 3], [7]])
def test_items_are_known_by_their_ids(ids: list[int]) -> None:
    probing = Probing(None, vectors_of(0, len(ids)), np.array(ids), coded=False)
    asked = np.array([[*ids, -1]])
    assert probing._rows(asked).tolist() == [[*range(len(ids)), -1]]
    if ids != list(range(len(ids))):
        gone = np.array([[each for each in range(9) if each not in ids]])
        assert np.all(probing._rows(gone) == -1)


def test_vectors_of_another_length_are_found_by_check(tmp_path: Path) -> None:
    store = FaissFolder.create(tmp_path / "s", 12)
    vectors = vectors_of(0, 3)
    vectors[1] = 0  # of an image that the network makes nothing of
    store.add(np.arange(3), vectors, table_of(np.arange(3)))
    store.check()
    store.add(np.array([5]), 2 * vectors_of(1, 1), table_of(np.array([5])))
    with pytest.raises(InputError, match=r"vectors are not of length 1\. Build the index again"):
        store.check()


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    store = FaissFolder.create(tmp_path / "s", 12)
    assert store.rows_of(np.array([0, 4])).tolist() == [-1, -1]
    ids, scores = store.search(vectors_of(0, 2), 3)
    assert ids.tolist() == [[-1] * 3] * 2
    assert np.all(scores == -np.inf)
    store.add(np.array([4]), vectors_of(1, 1), table_of(np.array([4])))
    ids, scores = store.search(vectors_of(0, 2), 3)
    assert ids.tolist() == [[4, -1, -1]] * 2
    assert np.all(scores[:, 1:] == -np.inf)
    assert store.rows_of(np.array([3, 4, 5])).tolist() == [-1, 0, -1]
