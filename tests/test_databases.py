"""One contract for all stores: FAISS's folder, Milvus and Qdrant give the same neighbours."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.milvus import MilvusStore, milvus_filter
from lookalike.retrieval.qdrant import QdrantStore
from lookalike.retrieval.qdrant_filter import qdrant_filter
from lookalike.retrieval.store import Store
from lookalike.retrieval.where import where

needs_milvus = pytest.mark.skipif(
    find_spec("milvus_lite") is None, reason='pip install "lookalike[milvus-lite]"'
)
needs_qdrant = pytest.mark.skipif(
    find_spec("qdrant_client") is None, reason='pip install "lookalike[qdrant]"'
)
STORES: dict[str, Callable[[Path], Store]] = {
    "faiss": lambda folder: FaissFolder.create(folder / "index", 16),
    "milvus": lambda folder: MilvusStore(str(folder / "vectors.db"), 16),
    "qdrant": lambda folder: QdrantStore(str(folder / "qdrant"), 16),
}
OF = {"milvus": MilvusStore, "qdrant": QdrantStore}
FILTERS = (
    None,
    "class == 'bed' and price < 20",
    "class in ('sofa') and not price between 5 and 280",
    "price = 3 or price >= 298",
    "class like 'so%' and (price > 100 or price < 3)",
    "price > 9999",
)


def test_a_file_without_milvus_lite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymilvus")
    monkeypatch.setattr("lookalike.retrieval.milvus.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"lookalike\[milvus-lite\].*brings faiss-cpu"):
        MilvusStore(str(tmp_path / "vectors.db"), 16)


def drawn(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


IDS = np.arange(300, dtype=np.int64) * 7 + 2**33
VECTORS = drawn(300)
COLUMNS = pa.table(
    {
        "id": IDS,
        "path": [f"{row}.jpg" for row in range(300)],
        "class": ["bed" if row % 3 else "sofa" for row in range(300)],
        "price": np.arange(300),
    }
)


def expected(queries: np.ndarray, k: int, held: np.ndarray) -> list[list[int]]:
    """The nearest by a plain sort, of the rows that are held."""
    found = []
    for query in queries.astype(np.float64):
        scores = np.where(held, VECTORS.astype(np.float64) @ query, -9)
        order = np.argsort(-scores, kind="stable")[:k]
        ids = [int(IDS[row]) if scores[row] > -9 else -1 for row in order]
        found.append(ids + [-1] * (k - len(ids)))
    return found


@pytest.fixture(
    params=[
        "faiss",
        pytest.param("qdrant", marks=needs_qdrant),
        pytest.param("milvus", marks=[needs_milvus, pytest.mark.slow]),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.mark.filterwarnings("ignore")  # of pymilvus's own
def test_the_verbs(store: Store) -> None:
    store.add(IDS[:200], VECTORS[:200], COLUMNS.slice(0, 200))
    store.add(IDS[200:], VECTORS[200:], COLUMNS.slice(200))
    assert len(store) == 300
    queries = np.concatenate([VECTORS[:3], drawn(5, seed=1)])
    for chosen in FILTERS:
        if isinstance(store, QdrantStore) and "like" in str(chosen):
            continue  # which it does not know
        kept = np.ones(300, bool) if chosen is None else where(chosen, COLUMNS)
        ids, scores = store.search(queries, 7, chosen)
        assert (ids.dtype, ids.shape, scores.dtype) == (np.int64, (8, 7), np.float32)
        assert ids.tolist() == expected(queries, 7, kept), chosen
        for query, row, similarities in zip(queries, ids, scores, strict=True):
            near = VECTORS[(row[row >= 0] - 2**33) // 7] @ query
            np.testing.assert_allclose(similarities[row >= 0], near, atol=1e-5)
    store.remove(np.append(IDS[:50], 99))  # an unknown id is skipped
    assert len(store) == 250
    assert store.search(queries, 5)[0].tolist() == expected(queries, 5, np.arange(300) >= 50)
    found = store.items(np.append(IDS[60:63], 99)).sort_by("id").select(COLUMNS.column_names)
    assert found.to_pylist() == COLUMNS.slice(60, 3).to_pylist()
    store.remove(where="price >= 200 and class == 'bed'")
    left = (np.arange(300) >= 50) & ~where("price >= 200 and class == 'bed'", COLUMNS)
    assert len(store) == left.sum()
    assert store.search(queries, 5)[0].tolist() == expected(queries, 5, left)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("qdrant", marks=needs_qdrant),
        pytest.param("milvus", marks=[needs_milvus, pytest.mark.slow]),
    ],
)
def test_a_database_keeps_its_vectors_and_refuses_others(name: str, tmp_path: Path) -> None:
    place = str(tmp_path / "vectors.db")
    store = OF[name](place, 16)
    store.add(IDS, VECTORS, COLUMNS)
    store.close()
    again = OF[name](place, 16)
    assert len(again) == 300
    again.close()
    with pytest.raises(InputError, match="holds vectors of 16 dimensions, not 17"):
        OF[name](place, 17)


@needs_milvus
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_milvus_gives_no_more_than_it_can(tmp_path: Path) -> None:
    store = MilvusStore(str(tmp_path / "vectors.db"), 16)
    with pytest.raises(InputError, match="Milvus gives 16384 results"):
        store.search(VECTORS, 20000)
    store.close()


@pytest.mark.parametrize(
    "text", ["class is null", "lower(class) == 'bed'", "price + 1 == 2", "a b c"]
)
def test_a_filter_that_milvus_has_no_words_for(text: str) -> None:
    with pytest.raises(InputError, match="where="):
        milvus_filter(text)


def test_texts_in_a_filter_cannot_end_it() -> None:
    assert milvus_filter("class == 'a\" or id > 0 or \"'") == ('(class == "a\\" or id > 0 or \\"")')


@needs_qdrant
@pytest.mark.parametrize(
    "text", ["class like 'a%'", "class is null", "price + 1 == 2", "class < 'b'", "3 < price"]
)
def test_a_filter_that_qdrant_has_no_words_for(text: str) -> None:
    from qdrant_client import models

    with pytest.raises(InputError, match="where="):
        qdrant_filter(text, models)


@needs_qdrant
@pytest.mark.filterwarnings("ignore")
def test_a_filter_of_qdrant_keeps_what_that_of_a_folder_keeps(tmp_path: Path) -> None:
    columns = COLUMNS.slice(0, 30).append_column(
        "new", pa.array([row % 4 == 0 for row in range(30)])
    )
    columns = columns.set_column(3, "price", pa.array(np.arange(30) - 5))
    store = QdrantStore(str(tmp_path / "vectors"), 16)
    store.add(IDS[:30], VECTORS[:30], columns)
    for text in (
        "not (class == 'bed')", "class != 'bed'", "(price == 7)", "price != -3",
        "price in (-1, 2.5, 9)", "price between -2 and 3", "price > -4 and price <= 3",
        "price < 0 or class = 'sofa'", "new = true",
        "not new == true and price >= 20", "class in ('sofa', 'chair')",
    ):  # fmt: skip
        kept = where(text, columns)
        assert 0 < kept.sum() < 30
        found = store.search(VECTORS[:1], 30, text)[0][0]
        assert sorted(found[found >= 0].tolist()) == IDS[:30][kept].tolist(), text
    store.close()
