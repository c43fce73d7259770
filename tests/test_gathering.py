"""What several ranks measured, put together: other ranks are played by given rows."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike.data.records import Records
from lookalike.evaluation import gathering
from lookalike.evaluation.gathering import gather_by_id, gather_embeddings, with_exclusion_ids
from lookalike.retrieval.embeddings import Embeddings

RECORDS = Records.create(
    [f"{n}.png" for n in range(6)], list("aabbcc"), groups=["x", "x", "", "", "y", "z"]
)
DEVICE = torch.device("cpu")


def play_others(monkeypatch: pytest.MonkeyPatch, columns: list[Any], width: int = 0) -> list[Any]:
    """Lets another rank have these columns, one a call; returns the devices on which rows were."""
    left, seen = [torch.as_tensor(np.asarray(column)) for column in columns], []

    def gather(own: Tensor) -> list[Tensor]:
        seen.append(own.device)
        assert own.is_contiguous()
        other = left.pop(0)
        return [own, other.to(own.dtype)]

    def highest(value: int, device: torch.device) -> int:
        seen.append(device)
        return max(value, width)

    monkeypatch.setattr(gathering, "gather", gather)
    monkeypatch.setattr(gathering, "highest", highest)
    return seen


def test_embeddings_of_all_ranks_are_in_order_of_id_and_each_is_there_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = np.eye(6, 3, dtype=np.float32)
    own = Embeddings(vectors[[4, 1]], RECORDS.labels[[4, 1]], np.array([4, 1]))
    ids = [5, 1, 0]  # an even number a rank: one image is on both
    seen = play_others(monkeypatch, [vectors[ids], RECORDS.labels[ids], ids])
    found = gather_embeddings(own, RECORDS, DEVICE)
    assert found.ids.tolist() == [0, 1, 4, 5]
    assert found.labels.tolist() == [0, 0, 2, 2]
    np.testing.assert_array_equal(found.vectors, vectors[[0, 1, 4, 5]])
    assert found.vectors.dtype == np.float32
    assert found.exclusion_ids.tolist() == RECORDS.exclusion_ids[[0, 1, 4, 5]].tolist()
    assert found.exclusion_ids[0] == found.exclusion_ids[1]  # one camera
    assert all(device == DEVICE for device in seen)


@pytest.mark.parametrize("own_is_empty", [True, False])
def test_a_rank_without_images_takes_part(
    own_is_empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = np.eye(2, 3, dtype=np.float32), np.array([1, 1]), np.array([2, 3])
    none = np.zeros((0, 1), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
    own, other = (none, some) if own_is_empty else (some, (np.zeros((0, 3)), *none[1:]))
    play_others(monkeypatch, list(other), width=3)
    found = gather_embeddings(Embeddings(*own), RECORDS)
    np.testing.assert_array_equal(found.vectors, some[0])
    assert found.ids.tolist() == [2, 3]


def test_where_no_rank_has_images_there_are_none() -> None:
    none = Embeddings(np.zeros((0, 1), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(gather_embeddings(none, RECORDS)) == 0


def test_values_of_all_ranks_are_in_order_of_id(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"map": np.array([0.5, np.nan]), "minp": np.array([1.0, 0.25])}
    seen = play_others(monkeypatch, [[2, 1], [0.125, 0.5], [0.75, 1.0]])  # id 1 is on both ranks
    ids, found = gather_by_id(np.array([1, 5]), values, DEVICE)
    assert ids.tolist() == [1, 2, 5]
    np.testing.assert_array_equal(found["map"], [0.5, 0.125, np.nan])
    np.testing.assert_array_equal(found["minp"], [1.0, 0.75, 0.25])
    assert seen == [DEVICE] * 3


def test_columns_are_exchanged_on_the_device_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(gathering, "gather", lambda own: [own.new_empty(own.shape, device="cpu")])
    monkeypatch.setattr(Tensor, "to", lambda own, device: asked.append(device) or own)
    monkeypatch.setattr(gathering, "highest", lambda value, device: asked.append(device) or value)
    device = torch.device("meta")
    own = Embeddings(np.eye(2, dtype=np.float32), np.array([0, 0]), np.array([0, 1]))
    gather_by_id(np.array([3]), {"map": np.array([0.5])}, device)
    assert asked == [device] * 2
    monkeypatch.setattr(gathering, "collect", lambda parts: own)
    gather_embeddings(own, RECORDS, device)
    assert asked == [device] * 6


def test_exclusion_ids_are_those_of_the_records() -> None:
    own = Embeddings(np.eye(3, dtype=np.float32), np.array([2, 0, 0]), np.array([5, 1, 0]))
    found = with_exclusion_ids(own, RECORDS)
    assert found.exclusion_ids.tolist() == RECORDS.exclusion_ids[[5, 1, 0]].tolist()
    assert found.ids is own.ids
