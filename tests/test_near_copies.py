"""Pairs that are near, and groups around the best of them, by double loops."""

import numpy as np
import pytest

from lookalike.retrieval import near_copies
from lookalike.retrieval.near_copies import Group, groups_around_best, near_pairs


def crowd(count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(12, 8))[rng.integers(0, 12, count)] + 0.15 * rng.normal(
        size=(count, 8)
    )
    vectors[7] = vectors[3]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("block", [1024, 60, 7, 1])
@pytest.mark.parametrize("threshold", [0.95, 0.99, -1.0, 1.5])
def test_pairs_equal_a_double_loop(
    block: int, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_copies, "BLOCK", block)
    vectors = crowd()
    similar = vectors @ vectors.T
    expected = np.where((similar >= threshold) & ~np.eye(60, dtype=bool), similar, 0)
    found = near_pairs(vectors, threshold)
    assert found.dtype == np.float32
    assert found.shape == (60, 60)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-6)
    assert (found != found.T).nnz == 0


def test_a_pair_that_just_reaches_the_threshold_counts() -> None:
    found = near_pairs(np.array([[1, 0], [0, 1], [1, 0]], np.float32), 1.0)
    assert found.toarray().tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_for_a_pair(count: int) -> None:
    found = near_pairs(crowd()[:count], -1.0)
    assert (found.shape, found.nnz) == ((count, count), 0)


def test_groups_equal_a_loop() -> None:
    """Every copy is near to the item that is kept; the best come first; none is in two groups."""
    vectors = crowd()
    similar = vectors @ vectors.T
    order = np.random.default_rng(1).permutation(60)
    free, expected = set(range(60)), []
    for best in order.tolist():
        if best not in free:
            continue
        free.discard(best)
        copies = sorted(each for each in free if similar[best, each] >= 0.9)
        if copies:
            free -= set(copies)
            expected.append((best, copies))
    found = groups_around_best(near_pairs(vectors, 0.9), order)
    assert [(group.kept, sorted(group.copies)) for group in found] == expected
    assert len(expected) > 5
    for group in found:
        assert isinstance(group, Group)
        assert all(type(row) is int for row in group.copies)
        np.testing.assert_allclose(group.similarities, similar[group.kept, group.copies], atol=1e-6)


def test_a_copy_of_a_copy_is_not_in_the_group() -> None:
    angles = np.radians([0, 15, 30, 80])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = near_pairs(vectors, np.cos(np.radians(16)))
    first, best_in_the_middle = (
        groups_around_best(pairs, np.array(order)) for order in ([0, 1, 2, 3], [1, 0, 2, 3])
    )
    assert [(group.kept, list(group.copies)) for group in first] == [(0, [1])]
    assert [(g.kept, sorted(g.copies)) for g in best_in_the_middle] == [(1, [0, 2])]
