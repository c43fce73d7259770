"""Search that compares all, in parts of any size, by loops over plain vectors."""

from types import SimpleNamespace

import numpy as np
import pytest

from lookalike.device import CPU
from lookalike.retrieval import flat_search
from lookalike.retrieval.exact import all_scores, blocks, nearest, pair_scores
from lookalike.retrieval.faiss_flat import FaissFlat
from lookalike.retrieval.flat_search import FlatSearch, among, best, closest, ranked


def drawn(seed: int, count: int, unit: bool = True) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if unit else vectors


def by_loop(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[list, list]:
    order = [sorted(range(len(rows)), key=lambda c: (-line[c], rows[c]))[:k] for line in scores]
    return (
        [[int(rows[c]) for c in line] for line in order],
        [[float(scores[q][c]) for c in line] for q, line in enumerate(order)],
    )


@pytest.mark.parametrize("gathered", [2**20, 6 * 7, 1])  # numbers: all, seven vectors, one
@pytest.mark.parametrize("k", [1, 5, 40])
def test_some_rows_in_parts(gathered: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_search, "GATHERED", gathered)
    vectors, queries = drawn(0, 60), drawn(1, 4)
    vectors[20] = vectors[3]  # a tie across parts
    rows = np.flatnonzero(np.random.default_rng(2).random(60) < 0.5)
    rows = np.union1d(rows, [3, 20])
    exact = (queries.astype(float) @ vectors[rows].T.astype(float)).astype(np.float32)
    expected, scores = by_loop(exact, rows, k)
    kept = np.isin(np.arange(60), rows)
    for found in (
        among(queries, vectors, rows, k),
        FlatSearch(vectors, CPU).nearest(queries, k, kept),
    ):
        assert found[0].tolist() == expected
        np.testing.assert_allclose(found[1], scores, atol=1e-7)
    lengths = np.random.default_rng(3).uniform(0.5, 2, 60).astype(np.float32)
    whole = vectors * lengths[:, None]
    for some, mask in ((rows, kept), (np.arange(60), None)):
        distance = np.linalg.norm(queries[:, None] * 2 - whole[some], axis=2)
        nearest_rows, _ = by_loop(-distance.astype(np.float32), some, k)
        found = closest(queries * 2, vectors, lengths, k, mask)
        assert found[0].tolist() == nearest_rows
        far = -np.sort(distance, axis=1)[:, :k]
        np.testing.assert_allclose(found[1], far, atol=1e-6)


def test_of_no_rows_there_are_none() -> None:
    none = among(drawn(0, 2), drawn(1, 5), np.zeros(0, np.int64), 3)
    assert (none[0].shape, none[1].shape) == ((2, 0), (2, 0))
    assert (none[0].dtype, none[1].dtype) == (np.int64, np.float32)
    for found in (
        closest(drawn(0, 2), drawn(1, 5), np.ones(5, np.float32), 3, np.zeros(5, bool)),
        closest(drawn(0, 2), drawn(1, 0), np.ones(0, np.float32), 3),
    ):
        assert found[0].shape == found[1].shape == (2, 0)
    rows, scores = best([], 3, 2)
    assert (rows.shape, rows.dtype, scores.shape, scores.dtype) == (
        (3, 0), np.int64, (3, 0), np.float32,
    )  # fmt: skip


def test_places_without_an_item_are_last() -> None:
    rows, scores = ranked(
        np.array([[4, -1, 2, 9], [-1, -1, 0, -1]]),
        np.array([[0.5, 0.9, 0.5, -0.5], [0.1, 0.2, -1.0, 0.3]], np.float32), 3,
    )  # fmt: skip
    assert rows.tolist() == [[2, 4, 9], [0, -1, -1]]
    assert scores.tolist() == [[0.5, 0.5, -0.5], [-1.0, -np.inf, -np.inf]]
    found = [(np.array([[7]]), np.array([[0.5]], np.float32)), (rows[:1], scores[:1])]
    assert best(found, 1, 2)[0].tolist() == [[2, 4]]
    assert best(found[:1], 1, 2)[0].tolist() == [[7]]


def test_the_engine_of_all_vectors_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        flat_search, "FaissFlat",
        lambda *given, **more: made.append((len(given[0]), more)) or FaissFlat(*given, **more),
    )  # fmt: skip
    vectors, queries = drawn(0, 30), drawn(1, 3)
    search = FlatSearch(vectors, CPU)
    assert made == []
    for kept in (None, np.ones(30, bool), None):
        rows, _ = search.nearest(queries, 4, kept)
        exact = queries.astype(float) @ vectors.T.astype(float)
        assert rows.tolist() == np.argsort(-exact, axis=1)[:, :4].tolist()
    assert made == [(30, {"longest": 1 + 1e-5})]
    engine, asked = FaissFlat(vectors), []

    def of(gallery: np.ndarray) -> FaissFlat:
        assert gallery is vectors
        return engine

    monkeypatch.setattr(
        flat_search, "Engines",
        lambda **more: asked.append(more) or SimpleNamespace(of=of),
    )  # fmt: skip
    on_gpu = SimpleNamespace(type="cuda")
    assert FlatSearch(vectors, on_gpu).nearest(queries, 4)[0].tolist() == rows.tolist()
    assert asked == [{"device": on_gpu}]
    assert len(made) == 1


def test_filtered_rows_have_an_engine_of_their_own_with_a_known_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    monkeypatch.setattr(
        flat_search, "FaissFlat",
        lambda *given, **more: made.append((len(given[0]), more)) or FaissFlat(*given, **more),
    )  # fmt: skip
    among(drawn(1, 3), drawn(0, 30), np.arange(5, 12), 4)
    assert made == [(7, {"longest": 1 + 1e-5})]


@pytest.mark.parametrize(
    ("length", "width", "block", "expected"),
    [
        (5, 10, 20, [(0, 2), (2, 4), (4, 6)]),
        (3, 10, 5, [(0, 1), (1, 2), (2, 3)]),
        (3, 0, 2, [(0, 2), (2, 4)]),
        (0, 10, 20, []),
    ],
)
def test_rows_in_blocks_that_fit_the_memory(
    length: int, width: int, block: int, expected: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.retrieval.exact.BLOCK", block)
    assert [(part.start, part.stop) for part in blocks(length, width)] == expected


@pytest.mark.parametrize("measure", ["inner_product", "cosine", "euclidean"])
@pytest.mark.parametrize("pairs", [1, 512, 513, 2000])
def test_scores_of_pairs_and_of_all(measure: str, pairs: int) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = drawn(1, 9, unit=False), drawn(2, 40, unit=False)
    query, row = rng.integers(0, 9, pairs), rng.integers(0, 40, pairs)
    left, right = queries.astype(float), gallery.astype(float)
    every = {
        "inner_product": left @ right.T,
        "cosine": left
        @ right.T
        / np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)),
        "euclidean": -np.linalg.norm(left[:, None] - right, axis=2),
    }[measure]
    found = pair_scores(queries, gallery, query, row, measure)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, every[query, row], rtol=1e-6, atol=1e-7)
    whole = all_scores(queries, gallery, measure)
    assert (whole.dtype, whole.shape) == (np.float32, (9, 40))
    np.testing.assert_allclose(whole, every, rtol=1e-6, atol=1e-7)
    if measure == "inner_product":
        assert pair_scores(queries, gallery, query, row).tolist() == found.tolist()
        assert all_scores(queries, gallery).tolist() == whole.tolist()


def test_cosines_of_zero_vectors_and_of_equal_ones() -> None:
    vectors = np.array([[0, 0], [1e-20, 0], [3, 4], [-3, -4]], np.float32)
    expected = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]]
    for scale in (1, 0.1, 1 / 3):
        whole = all_scores(vectors * np.float32(scale), vectors, "cosine")
        np.testing.assert_allclose(whole, expected, atol=1e-6)
        assert np.abs(whole).max() <= 1


@pytest.mark.parametrize("measure", ["inner_product", "cosine", "euclidean"])
def test_numbers_of_another_kind(measure: str) -> None:
    queries, gallery = drawn(0, 3, unit=False), drawn(1, 40, unit=False)
    expected = nearest(queries, gallery, 5, measure)
    found = nearest(queries.astype(float), np.asfortranarray(gallery.astype(float)), 5, measure)
    assert found[0].tolist() == expected[0].tolist()
    np.testing.assert_array_equal(found[1], expected[1])


def test_more_than_there_are_and_none_at_all() -> None:
    rows, scores = nearest(drawn(0, 2), drawn(1, 3), 9, "inner_product")
    assert rows.shape == scores.shape == (2, 3)
    for queries, gallery, k in ((0, 3, 2), (2, 0, 2), (2, 3, 0)):
        rows, scores = nearest(drawn(0, queries), drawn(1, gallery), k, "cosine")
        assert rows.shape == scores.shape == (queries, min(k, gallery))
        assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
