"""Milvus as a store: a cluster at an address, or Milvus Lite in a file. https://milvus.io.

The same client speaks to both. Columns are dynamic fields, so a filter needs no schema.
"""

import json
import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.store import other_dimensions, table_of
from lookalike.retrieval.where import parsed

AT_ONCE = 1000  # rows a request
MOST = 16384  # results a query that Milvus gives
OPERATORS = {
    "And": "and", "Or": "or", "EQ": "==", "NEQ": "!=", "LT": "<", "LTE": "<=", "GT": ">",
    "GTE": ">=", "Like": "like",
}  # fmt: skip


class MilvusStore:
    """Vectors in a collection of Milvus. The environment variable MILVUS_TOKEN opens a cluster.

        store = MilvusStore("vectors.db", 1280)

    Args:
        uri: a file that ends in .db for Milvus Lite, or an address such as http://host:19530.
        dimensions: D of a vector.
        collection: its name; made if it is missing.

    Raises:
        InputError: pymilvus is not installed, or the collection has other dimensions.
    """

    def __init__(self, uri: str, dimensions: int, collection: str = "lookalike") -> None:
        self.collection = collection
        self.dimensions = dimensions
        self.client = _client(uri)
        if not self.client.has_collection(collection):
            self.client.create_collection(
                collection, dimensions, metric_type="COSINE", consistency_level="Strong"
            )
        self._check_dimensions()

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], columns: pa.Table) -> None:
        """Hold N new vectors with their columns; see `Store.add`."""
        more = [name for name in columns.column_names if name != "id"]
        for start in range(0, len(ids), AT_ONCE):
            facts = columns.select(more).slice(start, AT_ONCE).to_pylist()
            rows = [
                {**fact, "id": int(ids[row]), "vector": vectors[row]}
                for row, fact in enumerate(facts, start)
            ]
            self.client.upsert(self.collection, rows)

    def remove(self, ids: NDArray[np.int64] | None = None, where: str | None = None) -> None:
        """Forget the vectors of these ids, or those that a filter keeps; see `Store.remove`."""
        if where is not None:
            self.client.delete(self.collection, filter=milvus_filter(where))
        elif ids is not None:
            for some in _blocks(ids):
                self.client.delete(self.collection, ids=some)

    def search(
        self, vectors: NDArray[np.float32], k: int, where: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `k` nearest of every query; see `Store.search`. Milvus gives 16384 at most."""
        if k > MOST:
            raise InputError(f"k={k}: Milvus gives {MOST} results a query at most")
        ids = np.full((len(vectors), k), -1, np.int64)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        chosen = "" if where is None else milvus_filter(where)
        found = self.client.search(self.collection, list(vectors), filter=chosen, limit=k)
        for row, hits in enumerate(found):
            ids[row, : len(hits)] = [hit["id"] for hit in hits]
            scores[row, : len(hits)] = [hit["distance"] for hit in hits]
        return ids, scores

    def items(self, ids: NDArray[np.int64]) -> pa.Table:
        """The columns of these ids; see `Store.items`."""
        found = [
            {name: value for name, value in row.items() if name != "vector"}
            for some in _blocks(ids)
            for row in self.client.get(self.collection, ids=some, output_fields=["*"])
        ]
        return table_of(found)

    def __len__(self) -> int:
        """How many vectors are held."""
        (counted,) = self.client.query(self.collection, output_fields=["count(*)"])
        return int(counted["count(*)"])

    def close(self) -> None:
        """Give back the connection."""
        self.client.close()

    def _check_dimensions(self) -> None:
        fields = self.client.describe_collection(self.collection)["fields"]
        found = next(int(each["params"]["dim"]) for each in fields if "dim" in each["params"])
        if found != self.dimensions:
            self.close()
            raise other_dimensions(self.collection, found, self.dimensions)


def milvus_filter(text: str) -> str:
    """A filter of `retrieval.where` in Milvus's words.

    >>> milvus_filter("class in ('bed', 'sofa') and price between 1 and 5")
    '(class in ["bed", "sofa"] and (price >= 1 and price <= 5))'

    Raises:
        InputError: it does not parse, or Milvus has no words for it.
    """
    return _written(parsed(text))


def _written(node: Any) -> str:
    kind = type(node).__name__
    if kind in OPERATORS:
        return f"({_written(node.this)} {OPERATORS[kind]} {_written(node.expression)})"
    rule = _RULES.get(kind)
    if rule is None:
        raise InputError(f"where= on Milvus does not know {node.sql(dialect='duckdb')!r}")
    return rule(node)


def _quoted(node: Any) -> str:
    return json.dumps(node.this) if node.is_string else str(node.this)


_RULES: dict[str, Callable[[Any], str]] = {
    "Paren": lambda node: _written(node.this),
    "Not": lambda node: f"not ({_written(node.this)})",
    "Neg": lambda node: f"-{_written(node.this)}",
    "In": lambda node: f"{_written(node.this)} in [{', '.join(map(_written, node.expressions))}]",
    "Between": lambda node: (
        f"({_written(node.this)} >= {_written(node.args['low'])} and "
        f"{_written(node.this)} <= {_written(node.args['high'])})"
    ),
    "Column": lambda node: node.name,
    "Literal": _quoted,
    "Boolean": lambda node: str(bool(node.this)).lower(),
}


def _blocks(ids: NDArray[np.int64]) -> list[list[int]]:
    return [ids[start : start + AT_ONCE].tolist() for start in range(0, len(ids), AT_ONCE)]


def _client(uri: str) -> Any:
    try:
        from pymilvus import MilvusClient
    except ImportError:
        raise InputError('Milvus needs pymilvus: pip install "lookalike[milvus]"') from None
    if uri.endswith(".db") and find_spec("milvus_lite") is None:
        raise InputError(
            f'{uri} is a file, which needs Milvus Lite: pip install "lookalike[milvus-lite]". It '
            "brings faiss-cpu; beside FAISS for GPUs use a server: store.uri=http://host:19530"
        )
    logging.getLogger("milvus_lite").setLevel(logging.WARNING)  # it tells of every file it writes
    return MilvusClient(uri, token=os.environ.get("MILVUS_TOKEN", ""))
