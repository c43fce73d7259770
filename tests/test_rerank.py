"""Re-ranking against dense loops over the papers' definitions."""

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.evaluation.metrics import values_of
from lookalike.retrieval import exact, rerank
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.rerank import KReciprocal, QueryExpansion


def random_set(seed: int, n: int, classes: int, size: int = 16, noise: float = 0.6) -> Embeddings:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    vectors = rng.normal(size=(classes, size))[labels] + noise * rng.normal(size=(n, size))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors.astype(np.float32), labels, np.arange(n) * 3 + 5)


def slow_k_reciprocal(
    vectors: NDArray, k1: int, k2: int, original_weight: float
) -> NDArray[np.float64]:
    """Final distances of all pairs (N, N), set by set: Zhong et al., equations 1 to 12."""
    vectors = vectors.astype(float)
    n = len(vectors)
    original = np.array([[((a - b) ** 2).sum() for b in vectors] for a in vectors])
    original /= original.max(axis=1, keepdims=True)
    order = np.argsort(original, axis=1)

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i, : k + 1].tolist() if i in order[j, : k + 1]}

    codes = np.zeros((n, n))
    for i in range(n):
        expanded = set(reciprocal(i, k1))
        for j in reciprocal(i, k1):
            candidate = reciprocal(j, round(k1 / 2))
            if len(candidate & reciprocal(i, k1)) > 2 / 3 * len(candidate):
                expanded |= candidate
        for j in expanded:
            codes[i, j] = np.exp(-original[i, j])
        codes[i] /= codes[i].sum()
    codes = np.array([codes[order[i, :k2]].mean(axis=0) for i in range(n)])
    jaccard = np.array(
        [[1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in codes] for a in codes]
    )
    return (1 - original_weight) * jaccard + original_weight * original


def together(blocks: object) -> Neighbours:
    parts = list(blocks)
    fields = ("ids", "scores", "relevant", "n_relevant")
    return Neighbours(*(np.concatenate([getattr(part, f) for part in parts]) for f in fields))


@pytest.mark.parametrize(
    ("seed", "k1", "k2", "weight"), [(0, 20, 6, 0.3), (1, 7, 1, 0), (2, 5, 3, 0.8)]
)
@pytest.mark.parametrize("shared", [False, True])
def test_k_reciprocal_equals_its_definition(
    seed: int, k1: int, k2: int, weight: float, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "BLOCK", 900)  # several blocks everywhere
    everything = random_set(seed, 120, 9)
    queries, gallery = (everything, everything) if shared else (everything[:30], everything[30:])
    distances = slow_k_reciprocal(everything.vectors, k1, k2, weight)
    found = together(KReciprocal(k1, k2, weight)(Gallery(gallery), queries, 10, everything))
    row_of = {int(id_): row for row, id_ in enumerate(everything.ids)}
    assert len(found.ids) == len(queries)
    for q, own in enumerate(queries.ids.tolist()):
        others = [row for row in map(row_of.get, gallery.ids.tolist()) if row != row_of[own]]
        nearest = np.sort(distances[row_of[own]][others])[:10]
        np.testing.assert_allclose(1 - found.scores[q], nearest, atol=2e-6)
        given = [distances[row_of[own], row_of[id_]] for id_ in found.ids[q].tolist()]
        np.testing.assert_allclose(given, nearest, atol=2e-6)
        assert own not in found.ids[q]


def test_k_reciprocal_helps_where_classes_are_clusters() -> None:
    everything = random_set(3, 400, 20, noise=1.0)
    plain = values_of(everything, everything, (1,), True)["map"].mean()

    def search(gallery: Gallery, queries: Embeddings, k: int) -> object:
        return KReciprocal()(gallery, queries, k, everything)

    better = values_of(everything, everything, (1,), True, search=search)["map"].mean()
    assert better > plain + 0.02


def test_collapsed_embeddings_gain_nothing_from_the_order_of_the_data() -> None:
    labels = np.repeat(np.arange(20), 10)
    everything = Embeddings(np.full((200, 4), 0.5, np.float32), labels, np.arange(200))

    def search(gallery: Gallery, queries: Embeddings, k: int) -> object:
        return KReciprocal()(gallery, queries, k, everything)

    values = values_of(everything, everything, (1,), True, search=search)
    assert values["map"].mean() < 0.1  # chance is 9 in 199


def test_more_neighbours_than_images() -> None:
    everything = random_set(4, 6, 2)
    found = together(KReciprocal()(Gallery(everything), everything, 5, everything))
    assert np.isfinite(found.scores).all()
    found = together(QueryExpansion(50)(Gallery(everything), everything, 5, everything))
    assert (found.ids != everything.ids[:, None]).all()


def test_re_ranking_sees_no_labels() -> None:
    everything = random_set(5, 60, 6)
    blind = Embeddings(everything.vectors, np.zeros(60, np.int64), everything.ids)
    for method in (KReciprocal(k1=6, k2=3), QueryExpansion(4, 1.0)):
        seen = together(method(Gallery(everything), everything, 8, everything))
        unseen = together(method(Gallery(blind), blind, 8, blind))
        np.testing.assert_array_equal(seen.ids, unseen.ids)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("shared", [False, True])
def test_query_expansion_equals_a_loop(
    alpha: float, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "BLOCK", 400)
    everything = random_set(6, 80, 40)  # few of a class: many of the 45 nearest are negative
    queries, gallery = (everything, everything) if shared else (everything[:25], everything[25:])
    found = QueryExpansion(45, alpha).expand(queries, gallery)
    for q in range(len(queries)):
        candidates = [
            (float(queries.vectors[q] @ gallery.vectors[g]), gallery.vectors[g].astype(float))
            for g in range(len(gallery))
            if gallery.ids[g] != queries.ids[q]
        ]
        mean = queries.vectors[q].astype(float)
        for similarity, vector in sorted(candidates, key=lambda pair: -pair[0])[:45]:
            mean = mean + max(similarity, 0) ** alpha * vector
        np.testing.assert_allclose(found.vectors[q], mean / np.linalg.norm(mean), atol=1e-5)
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.ids, queries.ids)


def test_arguments_out_of_range() -> None:
    with pytest.raises(InputError, match="k2=30"):
        KReciprocal(k2=30)
    with pytest.raises(InputError, match="original_weight=2"):
        KReciprocal(original_weight=2)
    with pytest.raises(InputError, match="neighbours >= 1"):
        QueryExpansion(0)


def test_embeddings_that_differ_by_rounding_only_can_be_reranked() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal(128) + 3e-8 * rng.standard_normal((72, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    everything = Embeddings(vectors, np.arange(72) % 6, np.arange(72))
    with np.errstate(all="raise"):
        for found in KReciprocal()(Gallery(everything), everything, 10, everything):
            assert np.isfinite(found.scores).all()


def test_ranges_in_full() -> None:
    for good in ((1, 1, 0.0), (1, 2, 1.0), (20, 21, 0.5)):
        assert KReciprocal(*good).k1 == good[0]
    for bad in ((5, 0, 0.3), (5, 7, 0.3), (5, 3, -0.1), (5, 3, 1.1)):
        with pytest.raises(InputError) as caught:
            KReciprocal(*bad)
        assert str(caught.value) == (
            f"re-ranking with k1={bad[0]}, k2={bad[1]}, original_weight={bad[2]}: need 1 <= k2 <= "
            "k1 + 1 and 0 <= original_weight <= 1"
        )
    QueryExpansion(1, 0)
    for neighbours, alpha in ((0, 0.0), (1, -0.1)):
        with pytest.raises(InputError) as caught:
            QueryExpansion(neighbours, alpha)
        assert str(caught.value) == "query expansion needs neighbours >= 1 and alpha >= 0"


def test_a_set_that_lies_in_another_by_exactly_two_thirds_is_not_taken() -> None:
    """Differs from the paper, as the authors' code does."""
    wide, narrow = np.zeros((2, 7, 7), np.float32)
    wide[0, [0, 1, 2, 3]] = 1
    for one, other in ((1, 1), (1, 2), (1, 5), (3, 3), (3, 0), (3, 2), (3, 6)):
        narrow[one, other] = narrow[other, one] = 1
    # of 1, two of three lie in the set of 0; of 3, three of four
    matrices = [scipy.sparse.csr_array(each) for each in (wide, narrow)]
    found = rerank._expanded(*matrices).toarray() > 0
    expected = np.zeros((7, 7), bool)
    expected[0, [0, 1, 2, 3, 6]] = True
    np.testing.assert_array_equal(found, expected)


def test_the_nearest_and_the_greatest_distance_of_every_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "BLOCK", 200)
    everything = random_set(8, 40, 5)
    ranking, greatest = rerank._ranking(everything.vectors, 6)
    products = everything.vectors.astype(float) @ everything.vectors.T.astype(float)
    np.fill_diagonal(products, 9)
    np.testing.assert_array_equal(ranking, np.argsort(-products, axis=1)[:, :6])
    np.testing.assert_allclose(greatest, (2 - 2 * products).max(axis=1), rtol=1e-5)
    assert greatest.dtype == np.float32
    few, _ = rerank._ranking(everything.vectors[:3], 6)
    assert few.shape == (3, 3)
    assert rerank._ranking(np.ones((3, 1), np.float32), 2)[1].tolist() == [np.float32(1e-6)] * 3


def test_only_neighbours_with_a_positive_cosine_move_a_query() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    everything = Embeddings(vectors, np.zeros(3, np.int64), np.arange(3))
    query = Embeddings(vectors[:1], np.zeros(1, np.int64), np.array([7]))
    found = QueryExpansion(3, 2.0).expand(query, everything)
    mean = vectors[0] * 2 + 0.6**2 * vectors[1]
    np.testing.assert_allclose(found.vectors[0], mean / np.linalg.norm(mean), rtol=1e-6)
    away = Embeddings(
        vectors[1:2] * np.array([[-1, 1]], np.float32), np.zeros(1, np.int64), np.array([7])
    )
    near = QueryExpansion(1, 0.0).expand(away, everything[:1])  # alpha 0 weighs all
    np.testing.assert_allclose(np.linalg.norm(near.vectors, axis=1), 1, rtol=1e-6)
    opposite = Embeddings(-vectors[:1], np.zeros(1, np.int64), np.array([7]))
    zero = QueryExpansion(3, 0.0).expand(opposite, everything[:1])
    assert zero.vectors.tolist() == [[0, 0]]  # the sum is nothing, and stays so


def test_equal_neighbours_stay_in_the_order_of_the_gallery() -> None:
    vectors = np.tile(np.array([[1, 0]], np.float32), (60, 1))
    own = np.arange(60)
    rows, scores = rerank._others(vectors, vectors, own, 40)
    for query, line in enumerate(rows.tolist()):
        assert line == [row for row in range(60) if row != query][:40]
    assert np.all(scores == 1)


def test_a_distance_is_never_negative() -> None:
    products = np.array([1.0000001, 1, 0, -1], np.float32)
    assert rerank._squared_distances(products).tolist() == [0, 0, 2, 4]


def test_ties_are_ranked_the_same_way_every_time() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)[rng.permutation(40)]
    everything = Embeddings(vectors, np.arange(40) % 5, np.arange(40))
    first, second = (
        together(KReciprocal(5, 3)(Gallery(everything), everything, 30, everything))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.ids, second.ids)
