"""Exact search with its proof, by every measure, on sets that hurt; and embeddings on disk."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.bounded import Bounded
from lookalike.retrieval.embeddings import Embeddings, concatenated
from lookalike.retrieval.exact import nearest, pair_scores
from lookalike.retrieval.faiss_flat import FaissFlat, import_faiss, unit

Vectors = NDArray[np.float32]
MEASURES = ("cosine", "euclidean", "inner_product")


def near_duplicates(size: int = 1280) -> Vectors:
    """200 vectors that differ by a thousandth: float32 mistakes their order."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=size) + 1e-3 * rng.normal(size=(200, size))).astype(np.float32)


def lengths_of_all_sizes() -> Vectors:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(300, 24)) * 10.0 ** rng.uniform(-3, 3, (300, 1))).astype(np.float32)


def zeros_and_copies() -> Vectors:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(150, 7)).astype(np.float32)
    vectors[::10] = 0
    vectors[5::10] = vectors[5]
    return vectors


SETS = {
    "near duplicates": near_duplicates,
    "near duplicates, 2048": lambda: near_duplicates(2048),
    "collapsed": lambda: np.ones((120, 16), np.float32),
    "lengths of all sizes": lengths_of_all_sizes,
    "zeros and copies": zeros_and_copies,
    "one": lambda: np.ones((1, 3), np.float32),
}


def slow_scores(queries: Vectors, gallery: Vectors, measure: str) -> NDArray[np.float64]:
    """In long double, pair by pair."""
    scores = np.empty((len(queries), len(gallery)), np.longdouble)
    for i, query in enumerate(queries.astype(np.longdouble)):
        for j, item in enumerate(gallery.astype(np.longdouble)):
            if measure == "euclidean":
                scores[i, j] = -np.sqrt(((query - item) ** 2).sum())
            else:
                length = np.sqrt((query**2).sum() * (item**2).sum()) if measure == "cosine" else 1
                scores[i, j] = (query * item).sum() / length if length else 0
    return scores.astype(np.float64)


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
@pytest.mark.parametrize("measure", MEASURES)
def test_nearest_is_exact(make, measure: str) -> None:
    gallery = make()
    queries = gallery[:40] if measure != "cosine" else gallery[:40] * np.float32(3)
    k = min(5, len(gallery))
    rows, scores = nearest(queries, gallery, k, measure)
    assert rows.shape == scores.shape == (len(queries), k)
    exact = slow_scores(queries, gallery, measure)
    found = np.take_along_axis(exact, rows, axis=1)
    best = -np.sort(-exact, axis=1)[:, :k]
    scale = np.maximum(1, np.abs(exact).max(axis=1, keepdims=True))
    if measure == "euclidean":  # of the distances themselves
        scale = np.maximum(1e-6, np.abs(best))
    np.testing.assert_array_less(np.abs(found - best) / scale, 3e-7)
    np.testing.assert_allclose(scores, found, rtol=1e-6, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(each)) == k for each in rows.tolist())


def test_near_duplicates_find_themselves() -> None:
    """By FAISS alone most of them find another one."""
    gallery = near_duplicates()
    for measure in ("cosine", "euclidean"):
        rows, _ = nearest(gallery[:100], gallery, 1, measure)
        np.testing.assert_array_equal(rows[:, 0], np.arange(100))


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_vectors_keep_the_order_of_the_gallery(measure: str) -> None:
    gallery = np.tile(np.array([[1, 2, 3]], np.float32), (50, 1))
    rows, _ = nearest(gallery[:3], gallery, 4, measure)
    np.testing.assert_array_equal(rows, np.tile(np.arange(4), (3, 1)))


def test_more_than_there_are_and_none() -> None:
    gallery = np.eye(3, dtype=np.float32)
    assert nearest(gallery[:2], gallery, 9, "cosine")[0].shape == (2, 3)
    assert nearest(gallery[:0], gallery, 2, "cosine")[0].shape == (0, 2)
    assert nearest(gallery, gallery[:0], 2, "cosine")[0].shape == (3, 0)


@pytest.mark.parametrize("make", [v for k, v in SETS.items() if k != "one"])
@pytest.mark.parametrize("measure", MEASURES)
def test_nothing_that_faiss_misses_scores_above_its_bound(make, measure: str) -> None:
    gallery = make()
    queries = gallery[:30]
    found = FaissFlat(gallery, measure).candidates(queries, np.full(len(queries), 2))
    exact = slow_scores(queries, gallery, measure)
    listed = np.zeros(exact.shape, bool)
    listed[found.query, found.row] = True
    missing = np.where(listed, -np.inf, exact).max(axis=1)
    assert (missing <= found.bound).all()


@pytest.mark.parametrize("make", [near_duplicates, lambda: np.ones((120, 16), np.float32)])
def test_what_the_bounded_engine_calls_complete_is(make) -> None:
    vectors = unit(make())
    found = Bounded(vectors).candidates(vectors, np.full(len(vectors), 3))
    exact = slow_scores(vectors, vectors, "inner_product").astype(np.float32)
    listed = np.zeros(exact.shape, bool)
    listed[found.query, found.row] = True
    third = -np.sort(-exact, axis=1)[:, 2:3]
    complete = found.bound == -np.inf
    assert (listed | (exact < third))[complete].all()


def test_scores_of_pairs() -> None:
    gallery = lengths_of_all_sizes()[:20]
    query, row = np.divmod(np.arange(400), 20)
    for measure in MEASURES:
        scores = pair_scores(gallery, gallery, query, row, measure).reshape(20, 20)
        exact = slow_scores(gallery, gallery, measure)
        np.testing.assert_allclose(scores, exact, rtol=1e-6, atol=1e-6 * np.abs(exact).max())


def test_without_faiss_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    import_faiss.cache_clear()  # it may have been imported before
    with pytest.raises(InputError, match=r"pip install \"lookalike\[cpu\]\""):
        nearest(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), 1, "cosine")


def saved(folder: Path) -> Embeddings:
    vectors = unit(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    ids = np.array([3, 5, 8, 9, 11, 20])
    return Embeddings(vectors, np.arange(6) % 2, ids, ids // 2, "0123456789abcdef")


def test_embeddings_are_saved_and_loaded(tmp_path: Path) -> None:
    embeddings = saved(tmp_path)
    file = embeddings.save(tmp_path / "set.npz")
    assert [each.name for each in tmp_path.iterdir()] == ["set.npz"]  # nothing beside it
    loaded = Embeddings.load(file)
    for name in ("vectors", "labels", "ids", "exclusion_ids"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(embeddings, name))
    assert loaded.fingerprint == embeddings.fingerprint == embeddings[2:4].fingerprint
    both = concatenated([loaded, loaded])
    assert both.fingerprint not in ("", loaded.fingerprint)
    assert Embeddings.load(loaded[:0].save(tmp_path / "empty")).vectors.shape == (0, 4)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_embeddings_that_can_not_be_read(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    if content is None:
        np.savez(file, vectors=np.ones((2, 2)))
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match="embed the images again"):
        Embeddings.load(file)
    with pytest.raises(InputError, match="no embeddings at"):
        Embeddings.load(tmp_path / "nowhere.npz")


def test_a_save_that_fails_keeps_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = saved(tmp_path)
    file = embeddings.save(tmp_path / "set.npz")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        embeddings[:2].save(file)
    assert len(Embeddings.load(file)) == 6
    assert [each.name for each in tmp_path.iterdir()] == ["set.npz"]
