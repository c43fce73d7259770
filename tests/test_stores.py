"""The contract of a store: neighbours equal a loop over all vectors, whatever was added before."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.inference.index_tuning import tune_index
from lookalike.retrieval import inverted, inverted_search
from lookalike.retrieval.arrow import is_one_of, numbers, taken
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.store import Store

Vectors = np.ndarray


def unit_vectors(rng: np.random.Generator, count: int, dimensions: int = 12) -> Vectors:
    vectors = rng.normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def coloured(ids: np.ndarray) -> pa.Table:
    return pa.table({"colour": pa.array(["red" if i % 3 else "blue" for i in ids.tolist()])})


def by_loop(
    held: dict[int, Vectors], query: Vectors, k: int, colour: str | None = None
) -> list[int]:
    scored = [
        (-float(np.float32(query.astype(np.float64) @ vector.astype(np.float64))), number)
        for number, vector in held.items()
        if colour is None or ("red" if number % 3 else "blue") == colour
    ]
    return [number for _, number in sorted(scored)[:k]]


def one_by_one_finds_the_same(
    store: Store, queries: Vectors, k: int, where: str | None = None
) -> None:
    ids, scores = store.search(queries, k, where)
    alone = [store.search(query[None], k, where) for query in queries]
    np.testing.assert_array_equal(np.concatenate([found for found, _ in alone]), ids)
    np.testing.assert_allclose(np.concatenate([each for _, each in alone]), scores, rtol=1e-7)


@pytest.fixture(params=["flat", "ivf"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(inverted, "FEW", 300)  # so that few vectors are enough for lists
    monkeypatch.setattr(inverted_search, "FEW", 50)
    monkeypatch.setattr(inverted, "FIRST_PROBES", 10_000)
    monkeypatch.setattr("lookalike.retrieval.structure.FIRST_PROBES", 10_000)
    return FaissFolder.create(tmp_path / "store", 12, request.param)


def test_a_store_finds_what_a_loop_finds_after_every_change(store: Store) -> None:
    rng = np.random.default_rng(0)
    held: dict[int, Vectors] = {}
    queries = unit_vectors(rng, 9)

    def add(ids: np.ndarray) -> None:
        vectors = unit_vectors(rng, len(ids))
        vectors[1:4] = vectors[0]  # copies: equal scores
        store.add(ids, vectors, coloured(ids))
        held.update(zip(ids.tolist(), vectors, strict=True))

    def check(k: int, filters: tuple[str | None, ...] = (None, "blue")) -> None:
        assert len(store) == len(held)
        for colour in filters:
            where = None if colour is None else f"colour == '{colour}'"
            ids, scores = store.search(queries, k, where)
            assert ids.shape == scores.shape == (len(queries), k)
            one_by_one_finds_the_same(store, queries, k, where)
            for query, found, score in zip(queries, ids.tolist(), scores, strict=True):
                expected = by_loop(held, query, k, colour)
                assert found == expected + [-1] * (k - len(expected))
                assert np.all(np.diff(score[: len(expected)]) <= 0)
                exact = [float(held[number] @ query) for number in expected]
                np.testing.assert_allclose(score[: len(expected)], exact, atol=1e-6)

    check(3, filters=(None,))  # it is empty, and has no columns yet
    add(np.arange(600))
    check(5)
    add(np.arange(1000, 1030))
    check(5)
    store.remove(np.array([3, 4, 5, 999, *range(100, 160)]))
    for number in [3, 4, 5, *range(100, 160)]:
        held.pop(number)
    check(7)
    add(np.arange(40, 45) + 2000)
    check(700)  # more than there are
    store.remove(np.array(list(held)))
    held.clear()
    check(1)
    store.close()


def test_values_move_between_numpy_and_arrow() -> None:
    table = pa.table({"n": pa.chunked_array([[1, 2], [], [3]]), "name": ["a", "äö", "?"]})
    assert numbers(table["n"]).tolist() == [1, 2, 3]
    assert numbers(pa.chunked_array([[1, 2], [3]])).tolist() == [1, 2, 3]
    assert numbers(table.slice(1, 1)["n"]).tolist() == [2]
    assert numbers(table.slice(0, 0)["n"]).tolist() == []
    assert taken(table, np.array([2, 0, 2])).to_pylist() == [
        {"n": 3, "name": "?"},
        {"n": 1, "name": "a"},
        {"n": 3, "name": "?"},
    ]
    assert taken(table, np.zeros(0, np.int64)).num_rows == 0
    odd = os.fsdecode(b"\xff")  # a file name that is no text
    assert is_one_of(table["name"], ["äö", odd, ""]).tolist() == [False, True, False]
    assert is_one_of(table["name"], []).tolist() == [False] * 3
    assert is_one_of(pa.chunked_array([["", None, odd[:0]]]), [""]).tolist() == [True, False, True]


def test_lists_that_are_not_all_probed_find_fewer_and_stay_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted, "FEW", 300)
    monkeypatch.setattr(inverted_search, "FEW", 50)
    rng = np.random.default_rng(1)
    vectors, queries = unit_vectors(rng, 3000, 8), unit_vectors(rng, 50, 8)
    store = FaissFolder.create(tmp_path / "s", 8, "ivf")
    store.add(np.arange(3000), vectors, coloured(np.arange(3000)))
    assert store.generation.structure["kind"] == "ivf"
    exact, _ = store.exactly(queries, 10)
    recalls = []
    for probes in (1, 8, store.generation.structure["cells"]):
        with store.alone():
            store.restructure(probes=probes)
        found, scores = store.search(queries, 10)
        assert np.all(np.diff(scores, axis=1) <= 0)
        recalls.append(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))
    assert recalls[0] < recalls[1] < recalls[2] == 1
    rare = store.search(queries, 10, "colour == 'blue'")[0]
    assert np.all(rare[rare >= 0] % 3 == 0)


def test_product_codes_are_refined_by_exact_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted, "FEW", 9000)
    monkeypatch.setattr(inverted_search, "FEW", 50)
    rng = np.random.default_rng(2)
    centres = unit_vectors(rng, 50, 16)
    vectors = centres[rng.integers(0, 50, 11_000)] + 0.2 * unit_vectors(rng, 11_000, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = FaissFolder.create(tmp_path / "s", 16, "ivfpq")
    store.add(np.arange(11_000), vectors, coloured(np.arange(11_000)))
    assert store.generation.structure["kind"] == "ivfpq"
    queries = vectors[::220].copy()
    found, scores = store.search(queries, 5)
    assert (found[:, 0] == np.arange(0, 11_000, 220)).all()
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)
    one_by_one_finds_the_same(store, queries, 5)
    store.remove(np.arange(0, 11_000, 440))  # now ids are no rows
    again, _ = store.search(queries, 5)
    assert (again[1::2, 0] == np.arange(220, 11_000, 440)).all()
    assert not np.isin(again, np.arange(0, 11_000, 440)).any()
    one_by_one_finds_the_same(store, queries, 5)
    one_by_one_finds_the_same(store, queries, 5, "colour == 'blue'")


def test_readers_see_the_old_or_the_new_and_a_second_writer_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    writer = FaissFolder.create(tmp_path / "s", 12)
    writer.add(np.arange(5), unit_vectors(rng, 5), coloured(np.arange(5)))
    reader = FaissFolder(tmp_path / "s")
    before = reader.vectors.copy()
    writer.add(np.arange(5, 9), unit_vectors(rng, 4), coloured(np.arange(5, 9)))
    writer.remove(np.array([0]))
    assert len(reader) == 5
    np.testing.assert_array_equal(reader.vectors, before)  # its files are gone from the folder
    assert reader.search(before[:1], 1)[0].tolist() == [[0]]
    reader.refresh()
    assert reader.ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    with writer.alone(), pytest.raises(InputError, match=r"another process .* holds"), \
         FaissFolder(tmp_path / "s").alone(wait=0):  # fmt: skip
        pass


def test_what_a_killed_writer_left_behind_the_vectors_does_not_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    store = FaissFolder.create(tmp_path / "s", 12)
    first, second = unit_vectors(rng, 4), unit_vectors(rng, 3)
    store.add(np.arange(4), first, coloured(np.arange(4)))
    file = store.folder / store.generation.vectors
    with file.open("ab") as stream:
        stream.write(b"half a vector, of a writer that was killed")
    (store.folder / "vectors-000077.f32").write_bytes(b"of another one")
    again = FaissFolder(tmp_path / "s")
    np.testing.assert_array_equal(again.vectors, first)
    again.add(np.arange(4, 7), second, coloured(np.arange(4, 7)))
    np.testing.assert_array_equal(
        FaissFolder(tmp_path / "s").vectors, np.concatenate([first, second])
    )
    assert sorted(each.name for each in store.folder.glob("vectors-*")) == [file.name]
    again.check()


@pytest.mark.parametrize("pattern", ["vectors-*", "items-*", "manifest.json", "faiss-*"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing"])
def test_a_damaged_file_is_named(
    tmp_path: Path, pattern: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted, "FEW", 300)
    rng = np.random.default_rng(5)
    store = FaissFolder.create(tmp_path / "s", 12, "ivf")
    store.add(np.arange(400), unit_vectors(rng, 400), coloured(np.arange(400)))
    (file,) = store.folder.glob(pattern)
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(
            content[: len(content) // 2] if damage == "truncated" else b"x" * len(content)
        )
    with pytest.raises(InputError, match=r"damaged|no index") as caught:
        FaissFolder(tmp_path / "s").check()
    assert "\n" not in str(caught.value)


def test_an_index_of_a_newer_lookalike_is_refused(tmp_path: Path) -> None:
    store = FaissFolder.create(tmp_path / "s", 12)
    file = store.folder / "manifest.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match=r"newer lookalike \(format 2\)"):
        FaissFolder(tmp_path / "s")


def test_a_full_disk_leaves_the_index_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    store = FaissFolder.create(tmp_path / "s", 12)
    store.add(np.arange(4), unit_vectors(rng, 4), coloured(np.arange(4)))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        store.add(np.arange(4, 6), unit_vectors(rng, 2), coloured(np.arange(4, 6)))
    with pytest.raises(InputError, match="No space left"):
        store.remove(np.array([1]))
    monkeypatch.undo()
    again = FaissFolder(tmp_path / "s")
    again.check()
    assert again.ids.tolist() == [0, 1, 2, 3]


def test_tuning_sets_the_fewest_lists_that_reach_a_recall(store: Store) -> None:
    assert isinstance(store, FaissFolder)
    vectors = unit_vectors(np.random.default_rng(3), 900)
    store.add(np.arange(900), vectors, coloured(np.arange(900)))
    for recall in (0, 1.1):
        with pytest.raises(InputError, match=f"recall={recall}: need more than 0"):
            tune_index(store, recall)
    if store.lists is None:
        assert tune_index(store, 0.9).points == ()
        with pytest.raises(InputError, match="lists=9: this index compares all of its 900 items"):
            tune_index(store, lists=9)
        tune_index(store, 0.9, kind="ivf")
    assert store.generation.structure["cells"] == 23  # at least 39 vectors each
    curve = tune_index(store, 0.9, k=5, lists=9)
    assert store.generation.structure["cells"] == 9
    assert [point.probes for point in curve.points] == [1, 2, 4, 8, 9][: len(curve.points)]
    recalls = [point.recall for point in curve.points]
    assert recalls == sorted(recalls)
    assert recalls[-1] >= 0.9 > recalls[0]
    assert curve.chosen == next(p.probes for p in curve.points if p.recall >= 0.9)
    assert store.generation.structure["probes"] == curve.chosen
    found, _ = store.search(vectors[:200], 5)
    exact, _ = store.exactly(vectors[:200], 5)
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    assert 0.9 * 5 - 0.4 < np.mean(shared) < 5


def test_an_empty_index_can_not_be_tuned(store: Store) -> None:
    assert isinstance(store, FaissFolder)
    with pytest.raises(InputError, match="the index is empty: add images first"):
        tune_index(store)
