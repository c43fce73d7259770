"""Both ways to ranks, by candidates and by counting, against a plain loop; on sets that hurt."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike.retrieval import bounded, counting, ranks
from lookalike.retrieval.candidates import Candidates
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines, Name
from lookalike.retrieval.ranks import rank_relevant


def unit(vectors: NDArray) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def labelled(vectors: NDArray, labels: NDArray) -> Embeddings:
    return Embeddings(unit(vectors), labels.astype(np.int64), np.arange(len(labels)))


def clusters(seed: int, n: int = 700, size: int = 24, each: int = 7) -> Embeddings:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(n) // each
    centres = rng.normal(size=(labels.max() + 1, size))
    return labelled(centres[labels] + rng.normal(size=(n, size)), labels)


def duplicates() -> Embeddings:
    rng = np.random.default_rng(1)
    copies = np.repeat(rng.normal(size=(175, 24)), 4, axis=0)
    return labelled(copies, rng.integers(0, 100, 700))


def closer_than_bfloat16() -> Embeddings:
    """Groups of ten that are equal in bfloat16, and differ in float64."""
    rng = np.random.default_rng(2)
    groups = np.repeat(rng.normal(size=(70, 24)), 10, axis=0)
    return labelled(groups + rng.normal(0, 1e-5, (700, 24)), rng.integers(0, 100, 700))


def near_ties() -> Embeddings:
    """Scores with the first that lie as far apart as the first pass may err, and by one ulp."""
    rng = np.random.default_rng(3)
    cosine = 0.7 + np.repeat(np.arange(70) - 35, 10) * 2.0**-9
    cosine += (np.arange(700) % 3 - 1) * 2.0**-24
    away = rng.normal(size=(700, 23))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    vectors = np.concatenate([cosine[:, None], np.sqrt(1 - cosine**2)[:, None] * away], axis=1)
    vectors[0] = np.eye(24)[0]
    return labelled(vectors, rng.integers(0, 100, 700))


def one_large_class() -> Embeddings:
    base = clusters(4)
    return labelled(base.vectors, np.where(base.labels < 40, 0, base.labels))


def collapsed() -> Embeddings:
    return labelled(np.ones((700, 24)), np.arange(700) // 7)


SETS = [
    lambda: clusters(0), duplicates, closer_than_bfloat16, near_ties, one_large_class, collapsed,
    lambda: clusters(5, n=130), lambda: clusters(6, size=2), lambda: clusters(7, n=301, each=100),
]  # fmt: skip


def slow_ranks(queries: Embeddings, gallery: Embeddings) -> list[list[int]]:
    """Of each query, by sorting (score descending, irrelevant first)."""
    scores = (queries.vectors.astype(float) @ gallery.vectors.T.astype(float)).astype(np.float32)
    found = []
    for q, row in enumerate(scores):
        others = np.flatnonzero(gallery.exclusion_ids != queries.exclusion_ids[q])
        ranking = sorted((-row[g], gallery.labels[g] == queries.labels[q]) for g in others)
        found.append([rank for rank, (_, hit) in enumerate(ranking, 1) if hit])
    return found


def fast_ranks(
    queries: Embeddings, gallery: Embeddings, depth: NDArray | None, engine: Name = "bounded"
) -> list[list[int]]:
    found: list[list[int]] = [[-1]] * len(queries)
    for rows, block in rank_relevant(queries, gallery, depth, Engines(engine)):
        assert block.query.dtype == block.rank.dtype == block.n_relevant.dtype == np.int64
        for number, row in enumerate(rows):
            assert found[row] == [-1]
            found[row] = block.rank[block.query == number].tolist()
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles, and queries that need too many candidates."""
    for name, value in {
        "SHALLOW": 0,
        "DEEPEST": 0.2,
        "TILE": 64,
        "BLOCK": 2**15,
        "PLACES": 100,
    }.items():
        monkeypatch.setattr(ranks, name, value)
    monkeypatch.setattr(bounded, "ROWS", 64)
    monkeypatch.setattr(bounded, "COLUMNS", 96)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("make", SETS)
@pytest.mark.parametrize("pairs", [pytest.param(2**22, marks=pytest.mark.slow), 500])
def test_whole_ranks(make, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "PAIRS", pairs)  # few pairs: one block of queries after another
    everything = make()
    assert fast_ranks(everything, everything, None) == slow_ranks(everything, everything)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("make", SETS)
@pytest.mark.parametrize("pairs", [pytest.param(2**22, marks=pytest.mark.slow), 500])
@pytest.mark.parametrize("engine", ["faiss", "bounded", "bounded in float32"])
def test_ranks_down_to_a_depth(
    make, pairs: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "PAIRS", pairs)
    chosen, _, dtype = engine.partition(" in ")
    name: Name = "faiss" if chosen == "faiss" else "bounded"
    monkeypatch.setattr(bounded, "_narrowest", lambda _: getattr(torch, dtype or "bfloat16"))
    everything = make()
    expected = slow_ranks(everything, everything)
    depth = np.array([max(4, len(each)) for each in expected])
    found = fast_ranks(everything, everything, depth, name)
    for own, true, deep in zip(found, expected, depth, strict=True):
        assert [rank for rank in own if rank <= deep] == [rank for rank in true if rank <= deep]


def partly_collapsed() -> Embeddings:
    """Every other vector is one of two: more ties than an engine has spare candidates."""
    base = clusters(10)
    vectors = base.vectors.copy()
    vectors[::2] = vectors[:2].repeat(175, axis=0)
    return labelled(vectors, base.labels)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("make", [*SETS, partly_collapsed])
def test_what_faiss_cannot_prove_is_ranked_whole(make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, left = ranks._whole, []
    monkeypatch.setattr(ranks, "_whole", lambda *given: left.append(given[2]) or whole(*given))
    everything = make()
    depth = np.full(len(everything), 9)
    expected = slow_ranks(everything, everything)
    found = fast_ranks(everything, everything, depth, "faiss")
    for own, true in zip(found, expected, strict=True):
        assert [rank for rank in own if rank <= 9] == [rank for rank in true if rank <= 9]
    if make is SETS[0]:
        assert len(left[0]) < 0.01 * len(everything)
    if make is partly_collapsed:
        assert 0.3 < len(left[0]) / len(everything) < 0.7


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("engine", ["bounded", "faiss"])
def test_ties_that_begin_at_the_depth(engine: Name) -> None:
    """Places 9 to 48 are equal; the only irrelevant one comes first, though it is stored last."""
    nearer = np.stack([np.ones(8), np.linspace(0.1, 0.2, 8)], axis=1)
    vectors = [[[1, 0]], nearer, np.tile([1, 0.5], (40, 1)), np.tile([0.1, 1], (60, 1))]
    labels = np.concatenate([np.zeros(48), [1], np.full(60, 2)])
    gallery = labelled(np.concatenate(vectors), labels)
    found = fast_ranks(gallery[:1], gallery, np.array([9]), engine)
    assert [rank for rank in found[0] if rank <= 9] == list(range(1, 9))
    assert slow_ranks(gallery[:1], gallery)[0][:9] == [*range(1, 9), 10]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("whole", [True, False])
def test_queries_apart_from_the_gallery(whole: bool) -> None:
    everything = clusters(8)
    queries, gallery = everything[:300:2], everything[200:]
    depth = None if whole else np.full(len(queries), 9)
    expected = slow_ranks(queries, gallery)
    deepest = len(gallery) if whole else 9
    found = fast_ranks(queries, gallery, depth)
    cut = [
        [[rank for rank in own if rank <= deepest] for own in each] for each in (found, expected)
    ]
    assert cut[0] == cut[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_candidates_are_complete_for_most_queries_of_ordinary_sets(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the tests above would compare nothing but counting."""
    monkeypatch.setattr(bounded, "_narrowest", lambda _: dtype)
    vectors = clusters(9).vectors
    listed = bounded.Bounded(vectors).candidates(vectors, np.full(len(vectors), 8))
    assert (listed.bound == -np.inf).mean() > 0.8
    assert len(listed.query) < 0.2 * len(vectors) ** 2


@pytest.mark.parametrize("size", [3, 128, 512, 4096])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products_err_less_than_the_bound(size: int, dtype: torch.dtype) -> None:
    """Components halfway between two bfloat16 numbers, all of them rounded the same way."""
    rng = np.random.default_rng(0)
    halfway = unit(np.full((1, size), 1.0) * np.where(rng.random((400, size)) < 0.9, 1.0, 0.5))
    halfway = (halfway.view(np.uint32) & 0xFFFF0000 | 0x7FFF).view(np.float32)
    for vectors in (halfway, unit(rng.normal(size=(400, size)))):
        extent = bounded._Extent.of(vectors, dtype)
        bound = extent.error_with(extent, size)
        rounded = torch.from_numpy(vectors).to(dtype)
        low = rounded.float()
        exact = vectors.astype(float) @ vectors.T.astype(float)
        seen = np.abs((low @ low.T).numpy() - exact).max()
        assert 0 < seen <= bound
        products = (rounded @ rounded.T).float().numpy()  # rounded once more
        lowest = bounded._lowered(exact.astype(np.float32), bound)
        assert (products >= lowest).all()


def hard(seed: int) -> Embeddings:
    """A small set that hurts: duplicates, near ties, zeros, long and short vectors."""
    rng = np.random.default_rng(seed)
    n, size = int(rng.integers(5, 90)), int(rng.integers(1, 40))
    vectors = rng.normal(size=(n, size)) + rng.choice([0, 1, 5]) * rng.normal(size=size)
    vectors = vectors[rng.integers(0, n, n)] if rng.random() < 0.5 else vectors  # duplicates
    vectors = unit(vectors)
    vectors += (rng.normal(size=(n, size)) * 10.0 ** -rng.integers(3, 9)).astype(np.float32)
    if rng.random() < 0.3:
        vectors[rng.integers(0, n, 3)] = 0
    if rng.random() < 0.3:
        vectors *= rng.choice([1e-3, 1, 7], size=(n, 1)).astype(np.float32)
    most = int(rng.choice([2, 5, n + 1]))
    labels = rng.integers(0, max(1, n // most) + 1, n)
    groups = rng.permutation(n)
    within = rng.random() < 0.3  # groups lie inside of classes
    groups = np.unique([labels, groups % 3], axis=1, return_inverse=True)[1] if within else groups
    return Embeddings(vectors, labels, np.arange(n), groups.astype(np.int64))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("first", range(0, 300, 30))
def test_whole_ranks_of_hard_sets(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 30):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(ranks, "TILE", int(rng.integers(8, 64)))
        monkeypatch.setattr(ranks, "PLACES", int(rng.integers(8, 64)))
        monkeypatch.setattr(counting, "IN_DOUBT", float(rng.choice([0, 0.05, 2])))
        monkeypatch.setattr(counting, "DENSE", float(rng.choice([-1, 0.1, 2])))
        everything = hard(seed)
        assert fast_ranks(everything, everything, None) == slow_ranks(everything, everything), seed


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("first", range(0, 300, 30))
def test_every_engine_gives_the_ranks_of_hard_sets(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "SHALLOW", 128)
    for seed in range(first, first + 30):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(bounded, "ROWS", int(rng.integers(8, 64)))
        monkeypatch.setattr(bounded, "COLUMNS", int(rng.integers(8, 64)))
        everything = hard(seed)
        queries = everything[:: rng.integers(1, 3)]
        true = slow_ranks(queries, everything)
        depth = np.array([max(3, len(each)) for each in true])
        expected = [
            [rank for rank in each if rank <= deep] for each, deep in zip(true, depth, strict=True)
        ]
        engines: tuple[Name, ...] = ("auto", "faiss", "bounded")
        for engine in engines:
            found = fast_ranks(queries, everything, depth, engine)
            cut = [
                [rank for rank in each if rank <= deep]
                for each, deep in zip(found, depth, strict=True)
            ]
            assert cut == expected, (seed, engine)


def test_the_score_at_a_depth() -> None:
    query = np.array([0, 0, 0, 2, 2, 3])
    scores = np.array([0.9, 0.5, 0.1, 0.8, 0.7, -0.2], np.float32)
    for depth, expected in (
        ([1, 1, 1, 1], [0.9, -np.inf, 0.8, -0.2]),
        ([3, 1, 2, 2], [0.1, -np.inf, 0.7, -np.inf]),
        ([4, 9, 3, 1], [-np.inf, -np.inf, -np.inf, -0.2]),
    ):
        found = ranks._at_depth(query, scores, np.array(depth))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_runs_of_queries_hold_about_as_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "PAIRS", 10)
    rows, pairs = np.array([3, 5, 6, 8, 9]), np.array([4, 4, 4, 25, 1])
    assert [part.tolist() for part in ranks._groups(rows, pairs)] == [[3, 5, 6], [8], [9]]
    assert ranks._groups(rows[:0], pairs[:0]) == []


def test_candidates_in_the_order_of_their_exact_scores() -> None:
    everything = clusters(0, n=60)
    rng = np.random.default_rng(0)
    query = np.repeat([0, 1, 4], [9, 1, 20])
    row = np.concatenate([rng.permutation(60)[:n] for n in (9, 1, 20)])
    relevant = rng.random(30) < 0.5
    vectors = everything.vectors
    vectors[row[2]] = vectors[row[3]]  # a tie: the irrelevant one comes first
    relevant[2], relevant[3] = True, False
    exact = np.einsum("pd,pd->p", vectors[query].astype(float), vectors[row].astype(float))
    exact = exact.astype(np.float32)
    found = ranks._by_exact_scores(
        everything, everything, Candidates(query, row, np.zeros(5)), relevant
    )
    order = sorted(range(30), key=lambda p: (query[p], -exact[p], relevant[p]))
    assert found[0].tolist() == query[order].tolist()
    assert found[1].tolist() == relevant[order].tolist()
    np.testing.assert_array_equal(found[2], exact[order])


def test_the_error_of_products_by_its_formula() -> None:
    queries, gallery = clusters(0, n=20), clusters(1, n=30)
    long = Embeddings(gallery.vectors * np.float32(3), gallery.labels, gallery.ids)
    assert ranks._error(queries, long) == pytest.approx(32 * 2.0**-24 * 3, rel=3e-3)
    assert ranks._error(queries, long) > 32 * 2.0**-24 * 3
    assert ranks._error(long, long) == pytest.approx(32 * 2.0**-24 * 9, rel=3e-3)


def test_places_and_sums_of_queries() -> None:
    found = ranks.Ranks(np.array([0, 0, 2, 2, 2]), np.array([1, 5, 2, 3, 9]), np.array([2, 1, 3]))
    assert found.place.tolist() == [1, 2, 1, 2, 3]
    assert found.total(found.rank).tolist() == [6, 0, 14]
    assert found.total(found.rank > 2).dtype == np.float64
    assert ranks.place_in_query(np.zeros(0, np.int64), 2).tolist() == []
