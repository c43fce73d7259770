"""DatabaseIndex: images whose vectors are in a database; a folder holds the network and says where.

    index = DatabaseIndex.load("photos.index")
    ids, scores = index.store.search(index.embed(["chair.jpg"]), k=5, where="class == 'chair'")

The database holds every item with its columns, under absolute paths. One process adds at a time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.config import build
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.files import write_text
from lookalike.inference.embedder import AUTO, ImageEmbedder
from lookalike.inference.embedding_items import READING, normalised
from lookalike.inference.index_building import IN_DATABASE, PARTS, Into
from lookalike.inference.index_network import kept_network
from lookalike.inference.index_sources import Blocks, ImagesToEmbed
from lookalike.inference.items import places_of
from lookalike.inference.network import Network
from lookalike.inference.parts import Parts
from lookalike.inference.trust import check_trusted
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.store import Store
from lookalike.retrieval.writing import held

KIND = "lookalike index in a database"
FORMAT = 1
KNOWN = ("lookalike.retrieval.milvus.MilvusStore", "lookalike.retrieval.qdrant.QdrantStore")


@dataclass(frozen=True)
class Notes:
    """What the folder says.

    store: the constructor of the database's store with its arguments, as plain data.
    dimensions: D of a vector.
    next_id: that no item has had yet.
    network: name of the network's file in the folder.
    name: of the network, for people.
    fingerprint: of the network.
    about: of the source: places, or a folder of parts.
    """

    store: dict[str, Any]
    dimensions: int
    next_id: int
    network: str
    name: str
    fingerprint: str
    about: dict[str, Any]


class DatabaseIndex:
    """An index whose vectors are in a database.

    Args:
        folder: of the index.
        device: where images are embedded.
        trust: packages of your own whose parts the folder may name.
        engine: what runs the network.

    Raises:
        InputError: there is no such index, or the database can't be opened.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        trust: Sequence[str] = (),
        engine: EmbeddingEngine = AUTO,
    ) -> None:
        self.folder = folder
        self.device = device
        self.trust = tuple(trust)
        self.engine = engine
        self.reading = READING
        self.notes = _read(folder)
        self.store = _opened(self.notes.store, self.notes.dimensions, trust)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        trust: Sequence[str] = (),
        engine: EmbeddingEngine = AUTO,
    ) -> Self:
        """Open an index; its network is read when the first image is embedded."""
        return cls(Path(path), find_device(device), trust, engine)

    @cached_property
    def network(self) -> Network:
        """What made the vectors."""
        return kept_network(self.folder, self.notes.network, self.notes.fingerprint, self.trust)

    @cached_property
    def embedder(self) -> ImageEmbedder:
        """What turns images into features, before they get length 1."""
        network = self.network
        return ImageEmbedder(
            network.embedder.to(self.device), network.view, self.engine, "unnormalised"
        )

    def embed(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Images -> vectors (N, D) of length 1."""
        return normalised(self.embedder(list(images)))

    def __len__(self) -> int:
        return len(self.store)

    def info(self) -> dict[str, Any]:
        """What the index is: path, network, fingerprint, images, dimensions, store."""
        return {
            "path": str(self.folder),
            "network": self.notes.name,
            "fingerprint": self.notes.fingerprint,
            "images": len(self),
            "dimensions": self.notes.dimensions,
            "metric": "cosine",
            "store": self.place,
            **self.notes.about,
        }

    @property
    def place(self) -> str:
        """Where the vectors are, for people."""
        kind = self.notes.store["_target_"].rpartition(".")[2].removesuffix("Store")
        return f"{kind} at {self.notes.store.get('uri')}"

    def add(self, images: str | Path | Sequence[str | Path], wait: float = 10.0) -> dict[str, int]:
        """Embed more images; if it is killed, the same call goes on.

        Args:
            images: a folder, a file, a glob, a table, or a list of these.
            wait: seconds, for another process that adds.

        Raises:
            InputError: the same were added before.
        """
        places = places_of(images)
        with held(self.folder, wait, "adding to it"):
            self.notes = _read(self.folder)
            if places in self.notes.about["sources"]:
                raise InputError(
                    f"{', '.join(places)} was added before, and a database is not compared with "
                    "files. Remove what has changed first: index remove where=\"path == '...'\""
                )
            first = self.notes.next_id
            source = ImagesToEmbed(places, self.device, self.engine, self.reading, first)
            parts = Parts(self.folder / PARTS)
            following = _fill(self.store, source.blocks(parts, self.network), first)
            sources = [*self.notes.about["sources"], places]
            about = {**self.notes.about, "sources": sources}
            self.notes = replace(self.notes, next_id=following, about=about)
            _write(self.folder, self.notes)
            parts.clear()
        return {"added": following - first}

    def remove(
        self, where: str | None = None, ids: Sequence[int] = (), wait: float = 10.0
    ) -> dict[str, int]:
        """Forget items; durable when it returns.

        Args:
            where: a filter on the columns; or
            ids: of the items.
            wait: not needed, since a database takes changes of several processes.
        """
        if (where is None) == (not len(ids)):
            raise InputError("say what to remove: where=\"class == 'bed'\", or ids=[3,17]")
        before = len(self)
        self.store.remove(None if where else np.array(ids, np.int64), where)
        return {"removed": before - len(self), "left": len(self)}

    def close(self) -> None:
        """Give back the connection."""
        self.store.close()


def in_database(folder: str | Path) -> bool:
    """Whether the vectors of an index are in a database."""
    return (Path(folder) / IN_DATABASE).is_file()


def into_database(store: Mapping[str, Any], trust: Sequence[str] = ()) -> Into:
    """The vectors of a new index into a database.

    Args:
        store: constructor and arguments, as plain data; dimensions are added.
        trust: packages of your own whose parts it may name.
    """
    return partial(_begin, dict(store), tuple(trust))


def _begin(
    store: dict[str, Any],
    trust: tuple[str, ...],
    folder: Path,
    name: str,
    network: Network,
    about: Mapping[str, Any],
    blocks: Blocks,
) -> None:
    dimensions = network.embedder.embedding_size
    opened = _opened(store, dimensions, trust)
    try:
        following = _fill(opened, blocks, 0)
    finally:
        opened.close()
    noted = (network.name, network.fingerprint, dict(about))
    _write(folder, Notes(store, dimensions, following, name, *noted))


def _fill(store: Store, blocks: Blocks, next_id: int) -> int:
    """Add all; returns the id that comes next."""
    for block in blocks:
        if len(block.ids):
            store.add(block.ids, block.vectors, block.columns)
            next_id = max(next_id, int(block.ids.max()) + 1)
    return next_id


def _opened(store: dict[str, Any], dimensions: int, trust: Sequence[str]) -> Store:
    check_trusted(store, trust, KNOWN)
    return build(store, dimensions=dimensions)


def _write(folder: Path, notes: Notes) -> None:
    content = {"kind": KIND, "format": FORMAT, **asdict(notes)}
    write_text(folder / IN_DATABASE, json.dumps(content, indent=1) + "\n")


def _read(folder: Path) -> Notes:
    file = folder / IN_DATABASE
    if not file.is_file():
        raise InputError(f"no index in a database at {folder.resolve()}: there is no {IN_DATABASE}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("kind") != KIND:
            raise ValueError("it is of another kind")
        if content.pop("format") > FORMAT:
            raise InputError(f"{folder} comes from a newer lookalike: upgrade lookalike")
        return Notes(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file} says no place of an index: {error}. Copy it again.") from error
