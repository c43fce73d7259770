"""What is asked of Qdrant, in a folder, and what is made of its answers."""

import re
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval import qdrant
from lookalike.retrieval.qdrant import QdrantStore
from lookalike.retrieval.qdrant_filter import qdrant_filter

qdrant_client = pytest.importorskip("qdrant_client")
models = pytest.importorskip("qdrant_client.models")
pytestmark = pytest.mark.filterwarnings("ignore")

VECTORS = np.eye(5, 4, dtype=np.float32)
IDS = np.array([3, 8, 9, 20, 2**40])
COLUMNS = pa.table({"id": IDS, "class": list("aabbc"), "price": [1, 2, 3, 4, 5]})


@pytest.mark.parametrize("name", ["lookalike", "photos"])
def test_a_collection_is_made_once(name: str, tmp_path: Any) -> None:
    more = {} if name == "lookalike" else {"collection": name}
    store = QdrantStore(str(tmp_path), 4, **more)
    assert [each.name for each in store.client.get_collections().collections] == [name]
    found = store.client.get_collection(name).config.params.vectors
    assert (found.size, found.distance) == (4, models.Distance.COSINE)
    store.add(IDS, VECTORS, COLUMNS)
    store.close()
    store = QdrantStore(str(tmp_path), 4, **more)
    assert len(store) == 5
    store.close()
    text = (
        f"the collection {name} holds vectors of 4 dimensions, not 5: they are of another network. "
        "Give another collection."
    )
    for _ in range(2):  # it does not stay open
        with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
            QdrantStore(str(tmp_path), 5, **more)


@pytest.fixture
def store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(qdrant, "AT_ONCE", 2)
    made = QdrantStore(str(tmp_path), 4)
    made.add(IDS, VECTORS, COLUMNS)
    yield made
    made.close()


def test_rows_are_added_in_requests_and_given_back(
    store: QdrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(store) == 5
    found = store.items(np.array([9, 3, 4, 2**40])).sort_by("id")
    assert found.select(["id", "class", "price"]).to_pylist() == [
        {"id": 3, "class": "a", "price": 1},
        {"id": 9, "class": "b", "price": 3},
        {"id": 2**40, "class": "c", "price": 5},
    ]
    asked = []
    monkeypatch.setattr(store.client, "upsert", lambda name, batch: asked.append((name, batch)))
    store.add(IDS, VECTORS, COLUMNS)
    assert [name for name, _ in asked] == ["lookalike"] * 3
    assert [batch.ids for _, batch in asked] == [[3, 8], [9, 20], [2**40]]
    assert [len(batch.vectors) for _, batch in asked] == [2, 2, 1]
    assert [[fact["price"] for fact in batch.payloads] for _, batch in asked] == [
        [1, 2],
        [3, 4],
        [5],
    ]


def test_columns_need_not_hold_the_ids(store: QdrantStore) -> None:
    store.add(np.array([77]), VECTORS[:1], COLUMNS.select(["class"]).slice(0, 1))
    assert store.items(np.array([77])).to_pylist() == [{"class": "a", "id": 77}]


def test_what_is_removed(store: QdrantStore) -> None:
    store.remove(np.array([3, 77]))
    assert len(store) == 4
    store.remove()
    assert len(store) == 4
    store.remove(where="price > 3")
    assert sorted(store.items(IDS).column("id").to_pylist()) == [8, 9]


def test_answers_are_filled_up_to_k(store: QdrantStore) -> None:
    ids, scores = store.search(VECTORS[:2], 7)
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)
    assert ids[:, 0].tolist() == [3, 8]
    np.testing.assert_allclose(scores[:, :5], [[1, 0, 0, 0, 0]] * 2, atol=1e-6)
    assert ids[:, 5:].tolist() == [[-1, -1]] * 2
    assert np.all(scores[:, 5:] == -np.inf)
    ids, scores = store.search(VECTORS[:2], 2, "price >= 4")
    assert {*ids[0].tolist()} == {20, 2**40}
    ids, scores = store.search(VECTORS[:1], 1)
    assert (ids.tolist(), scores.shape) == ([[3]], (1, 1))


@pytest.mark.parametrize("key", [None, "secret"])
def test_a_server_gets_the_key_of_the_environment(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_client, "QdrantClient", lambda *given, **more: (given, more))
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("QDRANT_API_KEY", key)
    client, found = qdrant._client("http://host:6333")
    assert client == (("http://host:6333",), {"api_key": key})
    assert found is models
    assert qdrant._client("folder") == (((), {"path": "folder"}), models)


def test_without_qdrant_client_the_command_to_install_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    text = 'Qdrant needs qdrant-client: pip install "lookalike[qdrant]"'
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        qdrant._client("folder")


def field(key: str, **more: Any) -> Any:
    return models.FieldCondition(key=key, **more)


def equal(key: str, value: Any) -> Any:
    return field(key, match=models.MatchValue(value=value))


def between(key: str, **ends: float) -> Any:
    return field(key, range=models.Range(**ends))


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("class == 'bed'", equal("class", "bed")),
        ("new = true", equal("new", True)),
        ("new = false", equal("new", False)),
        ("price == 3", between("price", gte=3, lte=3)),
        ("price < 3", between("price", lt=3)),
        ("price <= 3.5", between("price", lte=3.5)),
        ("price > -3", between("price", gt=-3)),
        ("price >= 0", between("price", gte=0)),
        ("price between -1 and 2", between("price", gte=-1, lte=2)),
        ("(class != 'bed')", models.Filter(must_not=[equal("class", "bed")])),
        ("not class = 'bed'", models.Filter(must_not=[equal("class", "bed")])),
        (
            "class in ('bed', 'sofa')",
            models.Filter(should=[equal("class", "bed"), equal("class", "sofa")]),
        ),
        (
            "class = 'bed' and price < 3",
            models.Filter(must=[equal("class", "bed"), between("price", lt=3)]),
        ),
        (
            "class = 'bed' or price < 3",
            models.Filter(should=[equal("class", "bed"), between("price", lt=3)]),
        ),
    ],
)
def test_filters_in_the_words_of_qdrant(text: str, must: Any) -> None:
    assert qdrant_filter(text, models) == models.Filter(must=[must])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price + 1 = 2", "where= on Qdrant does not know 'price + 1 = 2'"),
        ("class is null", "where= on Qdrant does not know 'class IS NULL'"),
        ("class = price", "where= on Qdrant does not know 'price'"),
        ("price = -new", "where= on Qdrant does not know '-new'"),
        ("class < 'b'", "where= on Qdrant compares class with numbers only"),
        ("class between 1 and 'b'", "where= on Qdrant compares class with numbers only"),
    ],
)
def test_what_qdrant_has_no_words_for_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        qdrant_filter(text, models)
