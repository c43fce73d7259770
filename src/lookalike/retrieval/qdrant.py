"""Qdrant as a store: a server at an address, or a folder for small sets. https://qdrant.tech."""

import os
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.qdrant_filter import qdrant_filter
from lookalike.retrieval.store import other_dimensions, table_of

AT_ONCE = 1000  # rows a request


class QdrantStore:
    """Vectors in a collection of Qdrant. The environment variable QDRANT_API_KEY opens a server.

    Args:
        uri: an address such as http://host:6333, or a folder.
        dimensions: D of a vector.
        collection: its name; made if it is missing.

    Raises:
        InputError: qdrant-client is not installed, or the collection has other dimensions.
    """

    def __init__(self, uri: str, dimensions: int, collection: str = "lookalike") -> None:
        self.collection = collection
        self.client, self.models = _client(uri)
        if not self.client.collection_exists(collection):
            how = self.models.VectorParams(size=dimensions, distance=self.models.Distance.COSINE)
            self.client.create_collection(collection, vectors_config=how)
        found = self.client.get_collection(collection).config.params.vectors.size
        if found != dimensions:
            self.close()
            raise other_dimensions(collection, found, dimensions)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], columns: pa.Table) -> None:
        """Hold N new vectors with their columns; see `Store.add`."""
        for start in range(0, len(ids), AT_ONCE):
            some, facts = slice(start, start + AT_ONCE), columns.slice(start, AT_ONCE).to_pylist()
            given = {"ids": ids[some].tolist(), "vectors": vectors[some].tolist()}
            self.client.upsert(self.collection, self.models.Batch(**given, payloads=facts))

    def remove(self, ids: NDArray[np.int64] | None = None, where: str | None = None) -> None:
        """Forget the vectors of these ids, or those that a filter keeps; see `Store.remove`."""
        if where is not None:
            self.client.delete(self.collection, qdrant_filter(where, self.models))
        elif ids is not None:
            self.client.delete(self.collection, ids.tolist())

    def search(
        self, vectors: NDArray[np.float32], k: int, where: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `k` nearest of every query; see `Store.search`."""
        ids = np.full((len(vectors), k), -1, np.int64)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        chosen = None if where is None else qdrant_filter(where, self.models)
        asked = [
            self.models.QueryRequest(query=vector, limit=k, filter=chosen)
            for vector in vectors.tolist()
        ]
        for row, answer in enumerate(self.client.query_batch_points(self.collection, asked)):
            ids[row, : len(answer.points)] = [point.id for point in answer.points]
            scores[row, : len(answer.points)] = [point.score for point in answer.points]
        return ids, scores

    def items(self, ids: NDArray[np.int64]) -> pa.Table:
        """The columns of these ids; see `Store.items`."""
        found = self.client.retrieve(self.collection, ids.tolist())
        return table_of([{**point.payload, "id": point.id} for point in found])

    def __len__(self) -> int:
        """How many vectors are held."""
        return self.client.count(self.collection).count

    def close(self) -> None:
        """Give back the connection."""
        self.client.close()


def _client(uri: str) -> tuple[Any, Any]:
    """The client, and the module of what it is asked with."""
    try:
        from qdrant_client import QdrantClient, models
    except ImportError:
        raise InputError('Qdrant needs qdrant-client: pip install "lookalike[qdrant]"') from None
    if "://" in uri:
        return QdrantClient(uri, api_key=os.environ.get("QDRANT_API_KEY")), models
    return QdrantClient(path=uri), models
