"""Metrics against a double loop over plain numbers, on inputs that hurt."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lookalike.evaluation.clustering import clustering
from lookalike.evaluation.metrics import precision_at_k, retrieval_metrics, values_of
from lookalike.evaluation.recognition import Recognition
from lookalike.retrieval.candidates import Engine
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.faiss_flat import import_faiss
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.retrieval.ranks import Ranks

K = (1, 2, 4, 8)
NAMES = ("recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8", "precision_at_1")
NAMES += ("r_precision", "map_at_r", "map", "minp")


def embeddings(vectors: NDArray, labels: NDArray, ids: NDArray | None = None) -> Embeddings:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    ids = np.arange(len(labels)) if ids is None else ids
    return Embeddings(vectors.astype(np.float32), labels.astype(np.int64), ids.astype(np.int64))


def slow_values(queries: Embeddings, gallery: Embeddings) -> dict[str, list[float]]:
    """Every metric for every query, by sorting (score, irrelevant first) in Python."""
    values: dict[str, list[float]] = {name: [] for name in NAMES}
    for q in range(len(queries)):
        ranking = []
        for g in range(len(gallery)):
            if gallery.ids[g] == queries.ids[q]:
                continue
            products = queries.vectors[q].astype(float) * gallery.vectors[g].astype(float)
            ranking.append(
                (-np.float32(products.sum()), bool(gallery.labels[g] == queries.labels[q]))
            )
        relevant = [hit for _, hit in sorted(ranking)]
        total = sum(relevant)
        if total == 0:
            for name in NAMES:
                values[name].append(float("nan"))
            continue
        for k in K:
            values[f"recall_at_{k}"].append(float(any(relevant[:k])))
        values["precision_at_1"].append(float(relevant[0]))
        values["r_precision"].append(sum(relevant[:total]) / total)
        precisions = [
            sum(relevant[: i + 1]) / (i + 1) if hit else 0 for i, hit in enumerate(relevant)
        ]
        values["map_at_r"].append(sum(precisions[:total]) / total)
        values["map"].append(sum(precisions) / total)
        values["minp"].append(total / max(rank for rank, hit in enumerate(relevant, 1) if hit))
    return values


def assert_equal_to_slow(queries: Embeddings, gallery: Embeddings) -> None:
    expected = slow_values(queries, gallery)
    for whole_ranking in (True, False):
        for search in (None, seven_at_a_time):
            values = values_of(queries, gallery, K, whole_ranking, whole_ranking, search)
            assert set(values) == set(NAMES) - (set() if whole_ranking else {"map", "minp"})
            for name, column in values.items():
                np.testing.assert_allclose(column, expected[name], atol=1e-12, err_msg=name)


def seven_at_a_time(gallery: Gallery, queries: Embeddings, k: int) -> Iterator[Neighbours]:
    """A search in several blocks of queries, the last one smaller."""
    for start in range(0, len(queries), 7):
        yield from gallery.search(queries[start : start + 7], k)


def random_set(seed: int, n: int = 120, classes: int = 9, size: int = 8) -> Embeddings:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return embeddings(rng.normal(size=(n, size)) + np.eye(classes, size)[labels], labels)


@pytest.mark.parametrize("seed", range(4))
def test_random_embeddings(seed: int) -> None:
    everything = random_set(seed)
    assert_equal_to_slow(everything, everything)


def test_negative_scores() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 20)
    vectors = np.concatenate([np.eye(20), -np.eye(20)], axis=1)  # every cosine is -0 or below
    vectors -= 0.3
    everything = embeddings(vectors, labels)
    assert_equal_to_slow(everything, everything)


def test_ties_among_few_values() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.integers(0, 2, (150, 3)) + 0.5
    everything = embeddings(vectors, rng.integers(0, 6, 150))
    assert_equal_to_slow(everything, everything)


def test_exact_duplicates_count_and_queries_never_meet_themselves() -> None:
    rng = np.random.default_rng(2)
    vectors = np.repeat(rng.normal(size=(30, 5)), 2, axis=0)
    everything = embeddings(vectors, np.repeat(np.arange(30), 2))
    assert_equal_to_slow(everything, everything)
    assert values_of(everything, everything, K, False)["recall_at_1"].mean() == 1


def test_singleton_classes_have_no_value() -> None:
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.repeat(np.arange(5), 4), [50, 51]])
    everything = embeddings(rng.normal(size=(22, 4)), labels)
    assert_equal_to_slow(everything, everything)
    assert np.isnan(values_of(everything, everything, K, True)["map"]).sum() == 2


def test_k_beyond_the_gallery() -> None:
    everything = embeddings(np.eye(3), np.array([0, 0, 1]))
    assert_equal_to_slow(everything, everything)


@pytest.mark.parametrize("n", [60, 3000])
def test_separate_queries_and_gallery_with_shared_ids(n: int) -> None:
    everything = random_set(7, n)
    queries, gallery = everything[:40], everything[20:]
    assert_equal_to_slow(queries, gallery)


def test_queries_of_classes_that_the_gallery_lacks() -> None:
    gallery = random_set(8, 50, classes=3)
    queries = embeddings(np.eye(3, 8), np.array([1, 99, -5]), np.array([100, 101, 102]))
    assert_equal_to_slow(queries, gallery)


def test_large_gallery_goes_through_faiss_and_stays_exact() -> None:
    """4000 items in groups of 40 equal vectors: ties far beyond the spare candidates."""
    rng = np.random.default_rng(4)
    vectors = np.repeat(rng.normal(size=(100, 6)), 40, axis=0)
    everything = embeddings(vectors, rng.integers(0, 800, 4000))
    queries = everything[rng.choice(4000, 25, replace=False)]
    assert_equal_to_slow(queries, everything)


def test_collapsed_embeddings_score_zero_not_chance_of_order() -> None:
    labels = np.sort(np.random.default_rng(5).integers(0, 10, 500))  # neighbours share labels
    everything = embeddings(np.ones((500, 16)), labels)
    values = values_of(everything, everything, K, True)
    assert values["recall_at_8"].max() == 0
    assert values["map"].mean() < 0.2


def test_order_of_the_gallery_plays_no_part() -> None:
    rng = np.random.default_rng(6)
    vectors = np.repeat(rng.normal(size=(40, 64)), 5, axis=0).astype(np.float32)
    everything = embeddings(vectors, rng.integers(0, 20, 200))
    shuffled = everything[rng.permutation(200)]
    first, second = (
        values_of(everything[:50], each, K, True, True) for each in (everything, shuffled)
    )
    for name in NAMES:
        np.testing.assert_array_equal(first[name], second[name])


def test_no_queries_have_no_values() -> None:
    """A rank may have none."""
    everything = random_set(13, 20)
    for search in (None, seven_at_a_time):
        for whole_ranking in (True, False):
            values = values_of(everything[:0], everything, K, whole_ranking, search=search)
            assert {column.shape for column in values.values()} == {(0,)}


@pytest.mark.parametrize(
    ("labels", "k", "whole_ranking", "expected"),
    [
        ([0, 0, 1, 1, 2, 2], (1,), False, 1),
        ([0, 0, 1, 1, 2, 2], (1, 4), False, 4),
        ([0, 0, 0, 0, 1, 1], (1, 2), False, 3),  # as many as the largest class has others
        ([0, 0, 1, 1, 2, 2], (1,), True, 6),
    ],
)
def test_a_search_is_asked_for_no_more_than_the_metrics_need(
    labels: list[int], k: tuple[int, ...], whole_ranking: bool, expected: int
) -> None:
    everything = embeddings(np.eye(6), np.array(labels))
    asked: list[int] = []

    def search(gallery: Gallery, queries: Embeddings, k: int) -> Iterator[Neighbours]:
        asked.append(k)
        return gallery.search(queries, k)

    values_of(everything, everything, k, whole_ranking, search=search)
    assert asked == [expected]


def test_the_engine_that_was_chosen_finds_the_nearest() -> None:
    searched: list[int] = []

    class Chosen(Engines):
        def of(self, gallery: NDArray[np.float32]) -> Engine:
            searched.append(len(gallery))
            return super().of(gallery)

    everything = random_set(14, 30)
    queries, gallery = everything[:5], everything[5:]
    values_of(queries, gallery, K, True, search=seven_at_a_time, engines=Chosen())
    Recognition().columns(queries, gallery, np.ones(5, bool), Chosen())
    assert searched == [25, 25]


def test_equal_to_pml_where_definitions_agree() -> None:
    """PML's calculator takes the query's place in the list, not its id; no ties, so both agree."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    everything = random_set(9, 400, classes=12)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count"
    )
    theirs = calculator.get_accuracy(
        everything.vectors, everything.labels, everything.vectors, everything.labels, True
    )
    ours = values_of(everything, everything, K, False)
    assert ours["precision_at_1"].mean() == pytest.approx(theirs["precision_at_1"])
    assert ours["r_precision"].mean() == pytest.approx(theirs["r_precision"])
    assert ours["map_at_r"].mean() == pytest.approx(theirs["mean_average_precision_at_r"])


def test_average_precision_equal_to_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    everything = random_set(10)
    ours = values_of(everything, everything, K, True)["map"]
    similarity = everything.vectors @ everything.vectors.T
    for q in range(len(everything)):
        others = np.arange(len(everything)) != q
        truth = everything.labels[others] == everything.labels[q]
        assert ours[q] == pytest.approx(average_precision_score(truth, similarity[q][others]))


def test_neighbours_are_padded_and_sorted() -> None:
    everything = random_set(11, 6, classes=2)
    (found,) = Gallery(everything).search(everything, 10)
    assert (found.ids[:, 5:] == -1).all()
    assert not found.relevant[:, 5:].any()
    assert np.isneginf(found.scores[:, 5:]).all()
    assert (np.diff(found.scores[:, :5], axis=1) <= 0).all()
    assert (found.ids != everything.ids[:, None]).all()


def test_scores_are_cosines() -> None:
    everything = random_set(12, 30)
    (found,) = Gallery(everything).search(everything, 5)
    expected = (everything.vectors.astype(float) @ everything.vectors.T.astype(float)).astype("f4")
    np.testing.assert_array_equal(found.scores, np.take_along_axis(expected, found.ids, axis=1))


def test_diverged_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="diverged"):
        Embeddings(np.full((2, 2), np.nan, np.float32), np.zeros(2, np.int64), np.arange(2))


def test_every_retrieval_metric_wants_to_be_high() -> None:
    assert all(metric.higher_is_better for metric in retrieval_metrics(K, True))


def test_clustering_of_separate_and_of_mixed_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    separate = clustering(embeddings(np.eye(4)[labels] + rng.normal(0, 0.01, (100, 4)), labels))
    mixed = clustering(embeddings(rng.normal(size=(100, 4)), labels))
    assert separate["nmi"] == pytest.approx(1)
    assert separate["ami"] == pytest.approx(1)
    assert mixed["ami"] < 0.2


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take a hundred times as long."""
    with threadpool_limits(1):
        yield


@pytest.mark.usefixtures("one_thread")
def test_clusters_are_the_best_of_several_starts_and_the_seed_decides_them() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 20)
    noise = embeddings(rng.normal(size=(160, 4)), labels)
    assert clustering(noise) == clustering(noise, seed=0) != clustering(noise, seed=1)
    corners = embeddings(np.eye(8)[labels] + rng.normal(0, 0.02, (160, 8)), labels)
    found = [clustering(corners, seed)["nmi"] for seed in range(20)]
    assert sum(value > 0.999 for value in found) >= 16  # one start finds them 12 times, three 19


def test_few_images_of_a_class_are_no_reason_to_warn(capfd: pytest.CaptureFixture[str]) -> None:
    found = clustering(embeddings(np.eye(5), np.arange(5)))
    assert found["nmi"] == pytest.approx(1)
    assert capfd.readouterr() == ("", "")


def test_precision_down_to_k_or_to_the_last_relevant_item() -> None:
    """By a loop over the definition: mP@k of Oxford and Paris."""
    lists = [[1], [2], [1, 2], [1, 3, 9], [4], [2, 3, 5, 6], []]
    ranks = Ranks(
        np.repeat(np.arange(7), [len(each) for each in lists]), np.concatenate(lists).astype(int),
        np.array([len(each) for each in lists]),
    )  # fmt: skip
    for k in (1, 2, 3, 5, 20):
        expected = []
        for each in lists:
            depth = min(max(each, default=1), k)
            expected.append(sum(rank <= depth for rank in each) / depth)
        assert precision_at_k(ranks, k).tolist() == expected


def test_what_is_always_measured() -> None:
    names = [metric.name for metric in retrieval_metrics((1, 5), True)]
    assert names == [
        "recall_at_1", "recall_at_5", "precision_at_1", "r_precision", "map_at_r", "map",
    ]  # fmt: skip
    assert all(metric.higher_is_better for metric in retrieval_metrics((1,), True, True))
    few = [metric.name for metric in retrieval_metrics((2,), False, map_at=(3,), trapezoid=True)]
    assert few == [
        "recall_at_2", "precision_at_1", "r_precision", "map_at_r", "map_at_3", "map_trapezoid",
        "mean_precision_at_2",
    ]  # fmt: skip


def test_clusters_are_the_best_of_three_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    kmeans, made = import_faiss().Kmeans, []

    def recorded(*given: Any, **more: Any) -> Any:
        made.append((given, more))
        return kmeans(*given, **more)

    monkeypatch.setattr(import_faiss(), "Kmeans", recorded)
    everything = random_set(0)
    clustering(everything, seed=7)
    settings = {"niter": 25, "nredo": 3, "seed": 7, "min_points_per_centroid": 1}
    assert made == [((8, 9), settings)]
