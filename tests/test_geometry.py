"""Geometry of the embedding space, each number again by loops over images."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import skew
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from lookalike.evaluation.geometry import (
    Confusion,
    class_distances,
    confusions,
    extreme_queries,
    k_occurrences,
    nearest,
    project,
    similarity_histograms,
    skewness,
    spread,
)
from lookalike.retrieval.embeddings import Embeddings


def embeddings(seed: int = 0, sizes: tuple[int, ...] = (7, 1, 12, 5)) -> Embeddings:
    """Classes 3, 8, 13 ... of these sizes, in mixed order, among them exact copies, and ids that
    are no row numbers."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(3 + 5 * np.arange(len(sizes)), sizes)
    vectors = rng.normal(size=(len(labels), 4)).astype(np.float32)
    vectors[2], vectors[-1] = vectors[0], -vectors[1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = rng.permutation(len(labels))
    return Embeddings(vectors, labels, 10 * np.arange(len(labels)) + 4)[order]


def test_the_nearest_in_one_piece_by_a_loop() -> None:
    given = embeddings()
    gallery, queries = given[5:], given[:9]
    found = nearest(queries, gallery, 30)  # more than there are
    for row, query in enumerate(queries.ids):
        products = gallery.vectors.astype(float) @ queries.vectors[row].astype(float)
        right = gallery.labels == queries.labels[row]
        order = sorted(
            np.flatnonzero(gallery.ids != query), key=lambda n: (-np.float32(products[n]), right[n])
        )
        size = len(order)
        assert found.relevant[row].tolist() == [*right[order], *[False] * (30 - size)]
        assert found.n_relevant[row] == right[order].sum()
        np.testing.assert_allclose(found.scores[row, :size], products[order], atol=1e-6)
        assert np.isneginf(found.scores[row, size:]).all()
        assert (found.ids[row] >= 0).sum() == size


def test_every_item_has_a_count_the_one_with_id_0_too() -> None:
    counts = k_occurrences(np.array([[0, 1], [0, 4], [1, -1]]), np.array([1, 4, 0, 7, 9]))
    assert counts.tolist() == [2, 1, 2, 0, 0]


def test_k_occurrences_by_a_double_loop() -> None:
    given = embeddings()
    gallery, queries = given[5:], given[:9]  # four images are both
    found = nearest(queries, gallery, 3).ids
    counts = k_occurrences(found, gallery.ids)
    assert counts.tolist() == [
        sum(int(one == other) for row in found for other in row) for one in gallery.ids
    ]
    assert counts.sum() == 9 * 3
    few = k_occurrences(nearest(queries, gallery[:2], 50).ids, gallery.ids[:2])  # padded with -1
    assert few.sum() == sum(len(set(gallery.ids[:2]) - {query}) for query in queries.ids)


@pytest.mark.parametrize("values", [[0, 0, 0, 9], [1, 2, 3], [5.0, -1.0, -1.0, 0.5], [0, 0, 0.1]])
def test_skewness_is_scipy_s(values: list[float]) -> None:
    assert skewness(np.array(values)) == pytest.approx(skew(values), abs=1e-12)


def test_equal_counts_are_not_skewed() -> None:
    assert skewness(np.full(7, 3)) == 0.0


def test_class_distances_by_a_double_loop() -> None:
    given = embeddings()
    classes, distances = class_distances(given)
    assert classes.tolist() == [3, 8, 13, 18]
    expected: dict[tuple[int, int], list[float]] = {}
    for one, other in combinations(range(len(given)), 2):
        pair = sorted((int(given.labels[one]), int(given.labels[other])))
        cosine = float(given.vectors[one].astype(float) @ given.vectors[other].astype(float))
        expected.setdefault((pair[0], pair[1]), []).append(1 - cosine)
    for row, first in enumerate(classes.tolist()):
        for column, second in enumerate(classes.tolist()):
            pairs = expected.get((min(first, second), max(first, second)))
            assert distances[row, column] == pytest.approx(
                np.mean(pairs) if pairs else np.nan, nan_ok=True
            )
    assert np.isnan(distances).sum() == 1  # within the class of one image


def test_distances_of_classes_of_one_image() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    _, distances = class_distances(Embeddings(vectors, np.arange(3), np.arange(3)))
    expected = [[np.nan, 1, 0.4], [1, np.nan, 0.2], [0.4, 0.2, np.nan]]
    np.testing.assert_allclose(distances, expected, atol=1e-7)


def test_products_beyond_1_by_rounding_lie_in_the_outer_bins() -> None:
    long = np.nextafter(np.float32(1), np.float32(2))
    vectors = np.array([[long, 0], [long, 0], [-long, 0]], np.float32)
    found = similarity_histograms(Embeddings(vectors, np.array([0, 0, 1]), np.arange(3)))
    assert len(found.positive) == len(found.negative) == 80
    assert found.positive.dtype == found.negative.dtype == np.int64
    assert (found.edges[0], found.edges[-1]) == (-1, 1)
    np.testing.assert_allclose(np.diff(found.edges), 1 / 40)
    assert (found.positive[-1], found.positive.sum()) == (1, 1)
    assert (found.negative[0], found.negative.sum()) == (2, 2)


def test_histograms_by_a_double_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.evaluation.geometry.ROWS", 7)  # several blocks, the last smaller
    given = embeddings()
    found = similarity_histograms(given, bins=8)
    positive: list[float] = []
    negative: list[float] = []
    for one, other in combinations(range(len(given)), 2):
        kind = positive if given.labels[one] == given.labels[other] else negative
        kind.append(float(np.clip(given.vectors[one] @ given.vectors[other], -1, 1)))
    assert found.positive.tolist() == np.histogram(positive, found.edges)[0].tolist()
    assert found.negative.tolist() == np.histogram(negative, found.edges)[0].tolist()
    assert found.positive.sum() + found.negative.sum() == 25 * 24 / 2  # those at -1 and 1 are in


def test_overlap_of_histograms() -> None:
    apart = Embeddings(
        np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32), np.array([0, 0, 1, 1]), np.arange(4)
    )
    assert similarity_histograms(apart).overlap == 0.0
    collapsed = Embeddings(np.tile(np.float32([1, 0]), (4, 1)), apart.labels, apart.ids)
    assert similarity_histograms(collapsed).overlap == 1.0


def test_confusions_by_a_loop() -> None:
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    counted = Counter((int(a), int(b)) for a, b in zip(labels, found, strict=True) if a != b)
    listed = confusions(labels, found)
    assert {(c.label, c.mistaken_for): c.found for c in listed} == counted
    assert all(c.queries == int((labels == c.label).sum()) for c in listed)
    assert [c.found for c in listed] == sorted(counted.values(), reverse=True)
    assert confusions(labels, labels) == []
    assert confusions(np.array([0, 0, 1]), np.array([1, 0, 0])) == [
        Confusion(1, 0, 1, 1), Confusion(0, 1, 1, 2),
    ]  # fmt: skip


def pairwise(points: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)


def test_principal_components_keep_a_plane() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 2)))
    points = rng.normal(size=(20, 2))
    mapped = project((points @ basis.T).astype(np.float32), "pca")
    np.testing.assert_allclose(pairwise(mapped), pairwise(points), atol=1e-5)


def test_principal_components_are_scikit_learn_s_far_from_the_origin_too() -> None:
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(40, 5)) * [5, 3, 1, 0.5, 0.1] + [900, -70, 0, 3, 0]).astype("f4")
    mapped = project(vectors, "pca")
    expected = PCA(2).fit_transform(vectors.astype(float))
    np.testing.assert_allclose(abs(mapped), abs(expected), atol=1e-9)  # directions have no sign


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take a hundred times as long."""
    with threadpool_limits(1):
        yield


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("n", "perplexity"), [(5, 4 / 3), (7, 2.0), (10, 3.0), (120, 30.0)])
def test_tsne_is_scikit_learn_s_with_a_perplexity_of_a_third_of_the_others(
    n: int, perplexity: float
) -> None:
    """At most 30. All two components of these vectors are principal ones."""
    vectors = np.random.default_rng(2).normal(size=(n, 2)).astype(np.float32)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    found = project(vectors, "tsne")
    np.testing.assert_allclose(found, tsne.fit_transform(project(vectors, "pca")), rtol=1e-5)
    assert found.dtype == np.float64


@pytest.mark.usefixtures("one_thread")
def test_tsne_keeps_clusters_together() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(10 * np.eye(3, 8), 10, axis=0)
    vectors = (centres + rng.normal(0, 0.1, (30, 8))).astype(np.float32)
    mapped = project(vectors, "tsne")
    distances = pairwise(mapped)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 10 == np.arange(30) // 10).all()
    np.testing.assert_array_equal(mapped, project(vectors, "tsne"))


@pytest.mark.parametrize("n", [1, 2, 4, 6])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_even_few_images_have_a_map(n: int, size: int, method: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, size)).astype(np.float32)
    mapped = project(vectors, method)
    assert mapped.shape == (n, 2)
    assert np.isfinite(mapped).all()


def test_extremes_take_each_class_once_and_the_surest_of_equals() -> None:
    values = np.array([1.0, 1.0, 0.0, 0.0, 0.5, np.nan, 0.9])
    certainty = np.array([0.6, 0.9, 0.2, 0.8, 0.5, 0.99, 0.1])
    labels = np.array([1, 1, 2, 2, 3, 4, 5])
    best, worst = extreme_queries(values, certainty, labels, 3)
    assert best.tolist() == [1, 6, 4]
    assert worst.tolist() == [3, 4, 6]
    assert extreme_queries(values, certainty, labels, 50)[0].tolist() == [1, 6, 4, 3]


def test_the_spread_is_the_mean_distance_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    pairs = [1 - float(a @ b) for i, a in enumerate(vectors) for b in vectors[:i]]
    assert spread(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert spread(np.repeat(vectors[:1], 7, axis=0)) == pytest.approx(0, abs=1e-6)
    assert spread(vectors[:2]) == pytest.approx(1 - float(vectors[0] @ vectors[1]), abs=1e-6)
    assert np.isnan(spread(vectors[:1]))
