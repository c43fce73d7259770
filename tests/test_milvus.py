"""What is asked of Milvus, and what is made of its answers: a client in memory plays the server."""

import logging
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval import milvus
from lookalike.retrieval.milvus import MilvusStore, milvus_filter

VECTORS = np.eye(5, 4, dtype=np.float32)
IDS = np.array([3, 8, 9, 20, 2**40])
COLUMNS = pa.table({"id": IDS, "class": list("aabbc"), "price": [1, 2, 3, 4, 5]})


class Client:
    """As much of pymilvus's client as the store uses; `calls` holds what else it was asked."""

    def __init__(self, dimensions: int | None = None) -> None:
        self.collections = {} if dimensions is None else {"lookalike": dimensions}
        self.rows: dict[int, dict[str, Any]] = {}
        self.calls: list[Any] = []
        self.closed = False

    def has_collection(self, name: str) -> bool:
        return name in self.collections

    def create_collection(self, name: str, dimension: int, **how: Any) -> None:
        self.collections[name] = dimension
        self.calls.append(how)

    def describe_collection(self, name: str) -> dict[str, Any]:
        vector = {"params": {"dim": str(self.collections[name])}}
        return {"fields": [{"params": {}}, vector, {"params": {"max_length": 9}}]}

    def upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.calls.append((name, len(rows)))
        self.rows |= {row["id"]: row for row in rows}

    def delete(self, name: str, **which: Any) -> None:
        self.calls.append((name, which))

    def search(self, name: str, vectors: list[Any], **how: Any) -> list[list[dict[str, Any]]]:
        self.calls.append((name, how))
        return [
            [{"id": 7 + row, "distance": 0.5}, {"id": 8, "distance": 0.25}][: how["limit"]]
            for row in range(len(vectors))
        ]

    def get(self, name: str, ids: list[int], output_fields: list[str]) -> list[dict[str, Any]]:
        self.calls.append((name, ids, output_fields))
        return [self.rows[each] for each in ids if each in self.rows]

    def query(self, name: str, output_fields: list[str]) -> list[dict[str, Any]]:
        self.calls.append((name, output_fields))
        return [{"count(*)": len(self.rows)}]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()
    monkeypatch.setattr(milvus, "_client", {"place.db": made}.__getitem__)
    return made


@pytest.mark.parametrize("name", ["lookalike", "photos"])
def test_a_collection_is_made_once(name: str, client: Client) -> None:
    more = {} if name == "lookalike" else {"collection": name}
    for _ in range(2):
        MilvusStore("place.db", 4, **more)
        assert client.collections == {name: 4}
        assert client.calls == [{"metric_type": "COSINE", "consistency_level": "Strong"}]
    text = (
        f"the collection {name} holds vectors of 4 dimensions, not 5: they are of another network. "
        "Give another collection."
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        MilvusStore("place.db", 5, **more)
    assert client.closed


def test_rows_are_added_in_requests_and_given_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "AT_ONCE", 2)
    store = MilvusStore("place.db", 4)
    client.calls.clear()
    store.add(IDS, VECTORS, COLUMNS)
    assert client.calls == [("lookalike", 2), ("lookalike", 2), ("lookalike", 1)]
    for place, row in enumerate(IDS.tolist()):
        held = client.rows[row]
        assert set(held) == {"id", "class", "price", "vector"}
        assert isinstance(held["id"], int)
        assert (held["id"], held["class"], held["price"]) == (row, "aabbc"[place], place + 1)
        np.testing.assert_array_equal(held["vector"], VECTORS[place])
    assert len(store) == 5
    assert client.calls[-1] == ("lookalike", ["count(*)"])
    client.calls.clear()
    found = store.items(np.array([9, 3, 4, 2**40]))
    assert client.calls == [("lookalike", [9, 3], ["*"]), ("lookalike", [4, 2**40], ["*"])]
    assert found.sort_by("id").select(["id", "class", "price"]).to_pylist() == [
        {"id": 3, "class": "a", "price": 1},
        {"id": 9, "class": "b", "price": 3},
        {"id": 2**40, "class": "c", "price": 5},
    ]
    assert "vector" not in found.column_names
    assert not client.closed
    store.close()
    assert client.closed


def test_what_is_removed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "AT_ONCE", 2)
    store = MilvusStore("place.db", 4)
    client.calls.clear()
    store.remove(IDS[:3])
    store.remove(where="price > 3")
    store.remove()
    assert client.calls == [
        ("lookalike", {"ids": [3, 8]}),
        ("lookalike", {"ids": [9]}),
        ("lookalike", {"filter": "(price > 3)"}),
    ]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_answers_are_filled_up_to_k(k: int, client: Client) -> None:
    store = MilvusStore("place.db", 4)
    client.calls.clear()
    ids, scores = store.search(VECTORS[:2], k)
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)
    assert ids.tolist() == [[*each, -1, -1][:k] for each in ([7, 8], [8, 8])]
    assert scores.tolist() == [[0.5, 0.25, -np.inf, -np.inf][:k]] * 2
    store.search(VECTORS[:2], k, "price < 3")
    assert client.calls == [
        ("lookalike", {"filter": "", "limit": k}),
        ("lookalike", {"filter": "(price < 3)", "limit": k}),
    ]


def test_no_more_is_asked_than_milvus_gives(client: Client) -> None:
    store = MilvusStore("place.db", 4)
    assert store.search(VECTORS[:1], 16384)[0].shape == (1, 16384)
    with pytest.raises(InputError, match=r"^k=16385: Milvus gives 16384 results a query at most$"):
        store.search(VECTORS[:1], 16385)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("class == 'bed' and price < 3", '((class == "bed") and (price < 3))'),
        ("class != 'a\"b' or price >= 2.5", '((class != "a\\"b") or (price >= 2.5))'),
        ("not (price <= 3)", "not ((price <= 3))"),
        ("price > -3", "(price > -3)"),
        ("class in ('bed', 'sofa')", 'class in ["bed", "sofa"]'),
        ("price between 1 and 5", "(price >= 1 and price <= 5)"),
        ("new = true or new = false", "((new == true) or (new == false))"),
        ("class like 'a%'", '(class like "a%")'),
    ],
)
def test_filters_in_the_words_of_milvus(text: str, written: str) -> None:
    assert milvus_filter(text) == written


def test_what_milvus_has_no_words_for_is_named() -> None:
    with pytest.raises(InputError, match=r"^where= on Milvus does not know 'price \+ 1'$"):
        milvus_filter("price + 1 = 2")


def test_the_client_gets_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pymilvus = pytest.importorskip("pymilvus")
    monkeypatch.setattr(
        pymilvus, "MilvusClient", lambda uri, **more: SimpleNamespace(uri=uri, **more)
    )
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    assert vars(milvus._client("http://host:19530")) == {"uri": "http://host:19530", "token": ""}
    monkeypatch.setenv("MILVUS_TOKEN", "root:Milvus")
    before = logging.getLogger().level
    logging.getLogger("milvus_lite").setLevel(logging.INFO)
    assert milvus._client("http://host:19530").token == "root:Milvus"
    assert logging.getLogger("milvus_lite").level == logging.WARNING
    assert logging.getLogger().level == before
    monkeypatch.setattr(milvus, "find_spec", lambda name: name)
    assert milvus._client("place.db").uri == "place.db"
    monkeypatch.setattr(milvus, "find_spec", lambda name: None if name == "milvus_lite" else name)
    assert milvus._client("http://host:19530").uri == "http://host:19530"
    text = (
        'place.db is a file, which needs Milvus Lite: pip install "lookalike[milvus-lite]". It '
        "brings faiss-cpu; beside FAISS for GPUs use a server: store.uri=http://host:19530"
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        milvus._client("place.db")


def test_without_pymilvus_the_command_to_install_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    text = 'Milvus needs pymilvus: pip install "lookalike[milvus]"'
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        milvus._client("place.db")
