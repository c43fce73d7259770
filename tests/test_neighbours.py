"""One searcher, any engine: neighbours against a plain loop, on vectors that hurt."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.bounded import Bounded
from lookalike.retrieval.candidates import Candidates, Engine
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.exact import all_scores, nearest, pair_scores
from lookalike.retrieval.faiss_flat import FaissFlat, Measure, unit
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.order import ascending, descending

Vectors = NDArray[np.float32]


class Ragged:
    """An engine whose lists differ in length; every third query gets too short a one."""

    def __init__(self, gallery: Vectors) -> None:
        self.gallery = gallery

    def candidates(self, queries: Vectors, depth: NDArray[np.int64]) -> Candidates:
        """The nearest in float64; the bound is the score of the first that is left out."""
        scores = queries.astype(np.float64) @ self.gallery.T.astype(np.float64)
        order = np.argsort(-scores, axis=1)
        counts = depth + np.arange(len(queries)) % 3 * 5 - 5
        query = np.repeat(np.arange(len(queries)), counts)
        row = np.concatenate([each[:count] for each, count in zip(order, counts, strict=True)])
        first_missing = order[np.arange(len(queries)), counts]
        return Candidates(query, row, scores[np.arange(len(queries)), first_missing])


class Ignorant:
    """An engine that lists nothing and proves nothing."""

    def __init__(self, gallery: Vectors) -> None:
        self.gallery = gallery

    def candidates(self, queries: Vectors, depth: NDArray[np.int64]) -> Candidates:
        """No pairs."""
        nothing = np.zeros(0, np.int64)
        return Candidates(nothing, nothing, np.full(len(queries), np.inf))


ENGINES = (FaissFlat, Bounded, Ragged, Ignorant)


def labelled(vectors: NDArray, seed: int = 0) -> Embeddings:
    rng = np.random.default_rng(seed)
    n = len(vectors)
    labels = rng.integers(0, 12, n)
    exclusion_ids = np.arange(n)
    exclusion_ids[:6] = exclusion_ids[0]  # six images of one class from one camera
    labels[:6] = labels[0]
    ids = rng.permutation(n) + 7
    return Embeddings(unit(vectors.astype(np.float32)), labels, ids, exclusion_ids)


def clusters(size: int) -> Embeddings:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(15, size))[rng.integers(0, 15, 150)]
    return labelled(centres + rng.normal(size=(150, size)))


def near_duplicates() -> Embeddings:
    rng = np.random.default_rng(2)
    return labelled(rng.normal(size=1280) + 1e-3 * rng.normal(size=(150, 1280)))


def duplicates_and_zeros() -> Embeddings:
    vectors = np.repeat(np.random.default_rng(3).normal(size=(30, 9)), 5, axis=0)
    vectors[::11] = 0
    return labelled(vectors)


SETS = {
    "clusters": lambda: clusters(16),
    "2048 dimensions": lambda: clusters(2048),
    "near duplicates": near_duplicates,
    "duplicates and zeros": duplicates_and_zeros,
    "collapsed": lambda: labelled(np.ones((150, 16))),
}


def slow_search(queries: Embeddings, gallery: Embeddings, k: int) -> list[list[tuple[float, bool]]]:
    """Of each query (score, relevant) of its k nearest: score descending, irrelevant first."""
    found = []
    for q in range(len(queries)):
        ranking = []
        for g in range(len(gallery)):
            if gallery.exclusion_ids[g] == queries.exclusion_ids[q]:
                continue
            score = float(np.float32(queries.vectors[q].astype(float) @ gallery.vectors[g]))
            ranking.append((-score, bool(gallery.labels[g] == queries.labels[q])))
        found.append([(-score, hit) for score, hit in sorted(ranking)[:k]])
    return found


def together(parts: list[Neighbours]) -> Neighbours:
    fields = ("ids", "scores", "relevant", "n_relevant")
    return Neighbours(*(np.concatenate([getattr(part, f) for part in parts]) for f in fields))


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("k", [3, 400])
def test_every_engine_gives_the_same_neighbours(
    make: Callable[[], Embeddings],
    engine: Callable[[Vectors], Engine],
    k: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Engines, "of", lambda self, vectors: engine(vectors))
    gallery = make()
    queries = gallery[:60]
    found = together(list(Gallery(gallery).search(queries, k)))
    assert found.ids.shape == (60, k)
    row_of = {int(id_): row for row, id_ in enumerate(gallery.ids)}
    for q, expected in enumerate(slow_search(queries, gallery, k)):
        there = len(expected)
        given = list(zip(found.scores[q].tolist(), found.relevant[q].tolist(), strict=True))
        assert given[:there] == expected
        assert (found.ids[q, there:] == -1).all()
        rows = [row_of[id_] for id_ in found.ids[q, :there].tolist()]
        assert len(set(rows)) == there
        assert (gallery.exclusion_ids[rows] != queries.exclusion_ids[q]).all()
        assert (gallery.labels[rows] == queries.labels[q]).tolist() == [hit for _, hit in expected]


def test_the_engines_differ_in_what_they_prove() -> None:
    """Otherwise the test above would compare one way with itself."""
    vectors = clusters(16).vectors
    share = {}
    for engine in ENGINES:
        found = engine(vectors).candidates(vectors, np.full(150, 9))
        scores = found.table(pair_scores(vectors, vectors, found.query, found.row), -np.inf, 9)
        ninth = -np.sort(-scores, axis=1)[:, 8]
        share[engine] = found.proven(ninth).mean()
    assert share[FaissFlat] == 1
    assert share[Bounded] > 0.5
    assert share[Ragged] == pytest.approx(2 / 3)
    assert share[Ignorant] == 0


@pytest.mark.parametrize("exponent", [-30, -12, -7, -3, 3, 15, 18])
def test_cosine_of_short_and_long_vectors(exponent: int) -> None:
    """A vector shorter than 1e-12 is divided by that, so its cosine is low, but ranks alike."""
    rng = np.random.default_rng(4)
    plain = rng.normal(size=(60, 24)).astype(np.float32)
    gallery = plain * np.float32(10.0**exponent)
    query, row = np.divmod(np.arange(600), 60)
    pairs = pair_scores(gallery, gallery, query, row, "cosine").reshape(10, 60)
    np.testing.assert_allclose(pairs, all_scores(gallery[:10], gallery, "cosine"), rtol=1e-6)
    rows, scores = nearest(gallery[:10], gallery, 3, "cosine")
    expected, same = nearest(plain[:10], plain, 3, "cosine")
    if exponent > -12:
        np.testing.assert_allclose(scores, same, rtol=1e-6)
    if exponent > -30:  # there, float32 has few digits left
        np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(rows[:, 0], np.arange(10))


@pytest.mark.parametrize("exponent", [-30, -25, -23, -22.5, -22, -19, 18, 19, 20])
@pytest.mark.parametrize("measure", ["euclidean", "inner_product"])
def test_what_float32_can_not_square_is_ranked_all_the_same(
    exponent: float, measure: Measure
) -> None:
    """Inside FAISS squares under- or overflow; it then lists less, or in the wrong order."""
    plain = np.random.default_rng(0).normal(size=(2000, 8))
    gallery = (plain * 10.0**exponent).astype(np.float32)
    long = measure == "inner_product" and exponent > 0  # products must fit float32 in the end
    queries = plain[:100].astype(np.float32) if long else gallery[:100]
    rows, scores = nearest(queries, gallery, 3, measure)
    every = all_scores(queries, gallery, measure)
    np.testing.assert_array_equal(rows, np.argsort(-every, axis=1, kind="stable")[:, :3])
    np.testing.assert_array_equal(scores, np.take_along_axis(every, rows, axis=1))


def test_products_that_overflow_and_cancel() -> None:
    """In float32 infinity minus infinity: FAISS does not list the nearest."""
    queries = np.array([[2e19, 2e19]], np.float32)
    gallery = np.array([[1e14 * i, 0] for i in range(1, 41)] + [[-1.8e19, 2e19]], np.float32)
    found = FaissFlat(gallery, "inner_product").candidates(queries, np.array([2]))
    assert 40 not in found.row
    assert nearest(queries, gallery, 2, "inner_product")[0].tolist() == [[40, 39]]
    found = FaissFlat(gallery[40:], "inner_product").candidates(queries, np.array([2]))
    assert not (found.row < 0).any()
    assert np.isposinf(found.bound).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_explained(bad: float) -> None:
    good, broken = np.ones((4, 3), np.float32), np.full((4, 3), bad, np.float32)
    for queries, gallery in ((good, broken), (broken, good)):
        with pytest.raises(InputError, match="Use an earlier checkpoint"):
            nearest(queries, gallery, 1, "euclidean")


def test_candidates_as_a_table_and_their_proof() -> None:
    found = Candidates(np.array([0, 2, 2]), np.array([5, 7, 9]), np.array([np.inf, -np.inf, 0.5]))
    np.testing.assert_array_equal(found.table(found.row, -1, 1), [[5, -1], [-1, -1], [7, 9]])
    np.testing.assert_array_equal(found.table(found.row, -1, 3)[1:], [[-1] * 3, [7, 9, -1]])
    lowest, half = np.float32(-np.inf), np.float32(0.5)
    np.testing.assert_array_equal(found.proven(np.array([1, lowest, half])), [False, True, False])
    above = np.nextafter(half, np.float32(1))
    np.testing.assert_array_equal(found.proven(np.array([1, 1, above])), [False, True, True])


def test_integers_order_scores_the_other_way_round() -> None:
    scores = np.array([np.inf, 3e38, 1, 1e-45, 0, -1e-45, -1, -3e38, -np.inf], np.float32)
    integers = descending(scores)
    assert (np.diff(integers.astype(np.int64)) > 0).all()
    np.testing.assert_array_equal(ascending(integers), scores)
    zeros = descending(np.array([-0.0, 0.0], np.float32))
    assert zeros[0] == zeros[1]


def test_an_empty_gallery_and_no_queries() -> None:
    everything = clusters(16)
    (found,) = Gallery(everything[:0]).search(everything[:2], 3)
    assert (found.ids == -1).all()
    assert list(Gallery(everything).search(everything[:0], 3)) == []
    other = replace(everything, exclusion_ids=np.zeros(150, np.int64))  # everything is excluded
    (found,) = Gallery(other).search(other[:2], 3)
    assert (found.ids == -1).all()
