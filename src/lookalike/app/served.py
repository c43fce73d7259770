"""An index that is served under a name: it follows changes of its folder, and makes thumbnails."""

import re
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from lookalike.app.facets import Spread, spreads
from lookalike.inference.index import Index
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.generation import parsed
from lookalike.retrieval.where import where as rows_where

LOOK_AGAIN = 2.0  # seconds between looks at whether the folder has changed
THUMBNAILS = 2000  # kept in memory: about 40 MB
QUALITY = 85


class Served:
    """An index with the name that requests use.

    Args:
        name: letters, digits, points, hyphens.
        index: opened.
    """

    def __init__(self, name: str, index: Index) -> None:
        self.name = name
        self.index = index
        self._lock = Lock()
        self._looked = monotonic()
        self._spreads = lru_cache(1)(lambda generation: spreads(self.index.items))
        self._thumbnail = lru_cache(THUMBNAILS)(self._make_thumbnail)

    def current(self) -> Index:
        """The index as its folder is now; another process may have changed it."""
        with self._lock:
            if monotonic() - self._looked > LOOK_AGAIN:
                self._looked = monotonic()
                self.index = newest(self.index)
            return self.index

    def warm_up(self) -> None:
        """Read the network and search once, so that the first user waits for nothing."""
        index = self.current()
        vectors = index.embed([np.zeros((64, 64, 3), np.uint8)])
        index.search_vectors(vectors, 1, "class == ''")

    def card(self) -> dict[str, Any]:
        """What the index and its network are, for people."""
        return {"name": self.name, **self.current().info()}

    def kept(self, where: str | None) -> pa.Table:
        """The items that a filter keeps."""
        items = self.current().items
        return items if where is None else items.filter(pa.array(rows_where(where, items)))

    def spreads(self) -> list[Spread]:
        """The columns that facets are made of."""
        return self._spreads(self.current().store.generation.number)

    def items(self, ids: Sequence[int]) -> pa.Table:
        """Items by their ids, in that order; those that are gone are left out."""
        index = self.current()
        rows = index.store.rows_of(np.array(ids, np.int64))
        return index.items.take(pa.array(rows[rows >= 0]))

    def thumbnail(self, id: int, size: int) -> bytes:
        """A JPEG of an item, no larger than size x size pixels.

        Raises:
            InputError: there is no such item, or its file can't be read.
        """
        index = self.current()
        index.path(id)  # an item that was removed is not shown from memory
        return self._thumbnail(id, size, index.store.generation.number)

    def _make_thumbnail(self, id: int, size: int, generation: int) -> bytes:
        return jpeg(self.current().image(id), size)


def jpeg(image: Image.Image, size: int) -> bytes:
    """An image as JPEG, shrunk into a square of size x size pixels."""
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def newest(index: Index) -> Index:
    """The same index, or it opened again if its folder has changed."""
    if parsed(index.store.folder).number == index.store.generation.number:
        return index
    store = FaissFolder(index.store.folder, index.device)
    opened = Index(store, index.device, index.root, index.trust, index.engine)
    if opened.info()["fingerprint"] == index.info()["fingerprint"]:
        opened.embedder = index.embedder  # the network need not be read again
    return opened


def named(indexes: Sequence[Index]) -> dict[str, Served]:
    """The indexes by the names of their folders; a name that is there already gets a number.

    >>> [name for name in named([])]
    []
    """
    served: dict[str, Served] = {}
    for index in indexes:
        folder = Path(index.store.folder).resolve().name
        plain = re.sub(r"[^\w.-]+", "-", folder, flags=re.ASCII).strip("-") or "index"
        number = sum(re.sub(r"_\d+$", "", name) == plain for name in served)
        name = f"{plain}_{number + 1}" if number else plain
        served[name] = Served(name, index)
    return served
