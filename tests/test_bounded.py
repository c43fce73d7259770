"""The bounded engine by itself: it proves what it lists, and lists little more than it must."""

import numpy as np
import pytest
import torch

from lookalike.device import CPU
from lookalike.retrieval import bounded
from lookalike.retrieval.bounded import Bounded

Vectors = np.ndarray
DTYPES = [torch.float32, torch.bfloat16]


def crowds(seed: int, count: int, dimensions: int = 16) -> Vectors:
    """(N, D) of length 1 around 40 centres, with copies."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dimensions))
    vectors = centres[rng.integers(0, 40, count)] + 0.4 * rng.normal(size=(count, dimensions))
    vectors[1:4] = vectors[0]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("itself", [True, False])
def test_what_is_listed_is_proven_and_is_everything_as_near(
    dtype: torch.dtype, itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "_narrowest", lambda device: dtype)
    monkeypatch.setattr(bounded, "ROWS", 48)
    monkeypatch.setattr(bounded, "COLUMNS", 96)
    gallery = crowds(0, 2000)
    queries = gallery if itself else crowds(1, 130)
    depth = np.random.default_rng(2).integers(1, 9, len(queries))
    engine = Bounded(gallery)
    assert engine.sample.dtype == dtype
    assert len(engine.sample) == 125
    assert len(engine.sample.unique(dim=0)) >= 122  # no row twice; four of the gallery are copies
    found = engine.candidates(queries, depth)
    assert np.all(found.bound[depth > 2] == -np.inf)  # the sample says too little of one or two
    assert np.mean(found.bound == -np.inf) > 0.95
    assert found.query.dtype == found.row.dtype == np.int64
    assert np.all(np.diff(found.query) >= 0)
    exact = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    for query in range(0, len(queries), 7 if itself else 1):
        listed = found.row[found.query == query]
        if found.bound[query] == np.inf:
            assert not len(listed)
            continue
        worst = np.sort(exact[query])[-depth[query]]
        near = np.flatnonzero(exact[query] >= worst)
        assert np.isin(near, listed).all()
        assert len(set(listed.tolist())) == len(listed)
        slack = 0.04 if dtype == torch.bfloat16 else 0.01
        assert exact[query, listed].min() >= worst - slack


def test_a_query_that_is_near_to_all_is_left_to_others() -> None:
    gallery = np.tile(crowds(0, 1), (600, 1))
    found = Bounded(gallery).candidates(gallery[:2].copy(), np.array([3, 3]))
    assert found.bound.tolist() == [np.inf, np.inf]
    assert not len(found.query)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_err_by_no_more_than_is_said(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    left = rng.normal(size=(50, 24)).astype(np.float32)
    right = 3 * rng.normal(size=(70, 24)).astype(np.float32)
    one, other = (bounded._Extent.of(each, dtype) for each in (left, right))
    for extent, vectors in ((one, left), (other, right)):
        rounded = torch.from_numpy(vectors).to(dtype).float().numpy()
        norm = np.linalg.norm(vectors.astype(np.float64), axis=1).max()
        residual = np.linalg.norm((vectors - rounded).astype(np.float64), axis=1).max()
        assert norm < extent.norm < 1.002 * norm
        assert residual * 1.0005 <= extent.residual <= 1.002 * residual
    mine, theirs = one.norm + one.residual, other.norm + other.residual
    expected = one.residual * other.norm + mine * other.residual + 32 * 2**-23 * mine * theirs
    assert one.error_with(other, 24) == pytest.approx(expected, rel=1e-12)
    products = (
        torch.from_numpy(left).to(dtype).float() @ torch.from_numpy(right).to(dtype).float().T
    )
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    assert np.abs(products.numpy() - exact).max() < one.error_with(other, 24)


def test_the_error_is_that_of_queries_and_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, queries = crowds(0, 400), 3 * crowds(1, 5)
    seen = []
    guess = bounded._guess_floor
    monkeypatch.setattr(
        bounded, "_guess_floor", lambda *given: seen.append(given[-1]) or guess(*given)
    )
    engine = Bounded(gallery)
    engine.candidates(queries, np.full(5, 3))
    mine, theirs = (bounded._Extent.of(each, engine.dtype) for each in (queries, gallery))
    assert seen == [mine.error_with(theirs, 16)]


def test_a_score_is_lowered_by_what_both_products_may_err_and_by_rounding() -> None:
    scores = np.array([0.75, 0.1, 1.0, -0.3, 0.0, 1e-3], np.float32)
    for error in (0.0, 0.01):
        lowered = bounded._lowered(scores, error)
        allowed = scores - np.abs(scores) * 2**-8 - 2 * error
        assert lowered.dtype == np.float32
        assert np.all(lowered <= allowed + 1e-9)
        assert np.all(lowered >= allowed - np.abs(allowed) * 2**-7 - 1e-9)  # a step of bfloat16
        assert np.array_equal(torch.from_numpy(lowered).bfloat16().float().numpy(), lowered)
    assert bounded._lowered(np.array([2**-126], np.float32), 0.0)[0] > 0


def test_keys_sort_by_query_and_then_by_score() -> None:
    query = np.array([0, 0, 0, 1, 2**24 - 1])
    score = torch.tensor([1.0, 0.5, 0.25, 1.75, 0.125]).bfloat16()
    row = np.array([7, 3, 2**24 - 1, 0, 5])
    keys = bounded._keys(query, score, row)
    assert np.all(np.diff(keys.astype(object)) > 0)
    assert (keys >> bounded.QUERY_BITS).tolist() == query.tolist()
    assert bounded._scores_of(keys).tolist() == score.tolist()
    assert bounded._rows_of(keys).tolist() == row.tolist()
    assert bounded.END[0] > keys.max()
    assert keys[0] == (2**16 - 1 - 0x3F80) << 24 | 7  # 0x3F80 are the bits of 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_that_reaches_its_limit_is_found(dtype: torch.dtype) -> None:
    products = torch.tensor([[0.5, -1.0, 0.25], [0.75, 0.5, torch.inf]]).to(dtype)
    for limit, expected in (
        (torch.tensor([[0.25], [0.75]]), [(0, 0), (0, 2), (1, 0), (1, 2)]),
        (torch.tensor([[0.75, 0.5, torch.inf]]), [(1, 0), (1, 1), (1, 2)]),
    ):
        row, column, value = bounded._reaching(products, limit.to(dtype))
        assert list(zip(row.tolist(), column.tolist(), strict=True)) == expected
        assert value.tolist() == products[torch.from_numpy(row), torch.from_numpy(column)].tolist()


def test_half_the_bits_are_taken_where_the_processor_multiplies_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for multiplies, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(bounded, "cpu_multiplies_bfloat16", lambda said=multiplies: said)
        assert bounded._narrowest(CPU) == dtype
        monkeypatch.setattr(bounded, "cpu_multiplies_bfloat16", lambda said=multiplies: not said)
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation, said=multiplies: said and not including_emulation,
        )
        assert bounded._narrowest(torch.device("cuda")) == dtype
