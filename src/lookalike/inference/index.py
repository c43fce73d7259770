"""Index: images that can be searched, in a folder that lives on: built, added to, removed from.

    index = lookalike.Index.load("photos.index")
    hits = index.search("chair.jpg", k=5, where="class == 'chair'")

A folder of ordinary files (see `retrieval.generation`) and the network that made its vectors, so
that the index alone answers. Readers see the index before a change or after it.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.compute
import torch
from numpy.typing import NDArray

from lookalike.data.records import check_class
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.inference.asking import Question, ask
from lookalike.inference.combining import combined
from lookalike.inference.embedder import AUTO, AnyImage, ImageEmbedder
from lookalike.inference.embedding_items import READING, Reading, normalised
from lookalike.inference.hits import Hits
from lookalike.inference.index_building import build, check_in_folder, into_folder
from lookalike.inference.index_changes import add, remove, update
from lookalike.inference.index_network import CHECKPOINT, EXPORTED, kept_network
from lookalike.inference.index_sources import ImagesToEmbed
from lookalike.inference.indexed_images import IndexedImages
from lookalike.inference.items import places_of
from lookalike.inference.network import Network
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.rerank import Rerank

pc: Any = pyarrow.compute  # its functions are made at run time

Vectors = NDArray[np.float32]
Images = AnyImage | Sequence[AnyImage]


class Index(IndexedImages):
    """Images that can be searched.

    Args:
        store: the folder.
        device: where images are embedded and vectors compared.
        root: folder that relative paths start from; by default where the images were.
        trust: packages of your own whose parts the network may name.
        engine: what runs the network.
    """

    def __init__(
        self,
        store: FaissFolder,
        device: torch.device,
        root: str | Path | None = None,
        trust: Sequence[str] = (),
        engine: EmbeddingEngine = AUTO,
    ) -> None:
        super().__init__(store, root)
        self.device = device
        self.trust = tuple(trust)
        self.engine = engine
        self.reading = READING

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        root: str | Path | None = None,
        trust: Sequence[str] = (),
        engine: EmbeddingEngine = AUTO,
    ) -> Self:
        """Open an index; its network is read when the first image is embedded.

        Args:
            path: the folder.
            device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one.
            root: where the images are now, if they have moved.
            trust: packages of your own whose parts the network may name.
            engine: what runs the network.

        Raises:
            InputError: there is no index, it is damaged, or a newer lookalike made it.
        """
        check_in_folder(path)
        where = find_device(device)
        return cls(FaissFolder(path, where), where, root, trust, engine)

    @classmethod
    def build(
        cls,
        images: str | Path | Sequence[str | Path],
        path: str | Path,
        network: str | Path | Mapping[str, Any],
        device: str = "auto",
        trust: Sequence[str] = (),
        engine: EmbeddingEngine = AUTO,
        reading: Reading = READING,
        kind: str = "auto",
        lists: int | None = None,
        wait: float = 10.0,
    ) -> Self:
        """Embed images and write a new index; if it is killed, the same call goes on from there.

        Args:
            images: a folder (of class folders), a file, a glob, a table, or a list of these.
            path: the new folder.
            network: a checkpoint that `lookalike train` saved, an .onnx file of `lookalike export`,
                or what `inference.pretrained.pretrained_content` made.
            device: as in `load`.
            trust: as in `load`.
            engine: as in `load`.
            reading: how images are read.
            kind: "flat" compares all; "ivf" and "ivfpq" are FAISS's inverted lists; "auto" is
                "flat" up to a million images.
            lists: cells of inverted lists; by default by the number of images.
            wait: seconds, for another process that builds the same index.

        Raises:
            InputError: there is an index already, or no image can be read.
        """
        into = into_folder(kind, lists)
        source = ImagesToEmbed(places_of(images), find_device(device), engine, reading)
        build(Path(path), source, network, trust, into, wait)
        return cls.load(path, device, None, trust, engine)

    @cached_property
    def network(self) -> Network:
        """What made the vectors.

        Raises:
            InputError: its file is damaged or another one.
        """
        generation = self.store.generation
        name = next(each for each in (CHECKPOINT, EXPORTED) if each in generation.files)
        fingerprint = generation.about["fingerprint"]
        return kept_network(self.store.folder, name, fingerprint, self.trust)

    @cached_property
    def embedder(self) -> ImageEmbedder:
        """What turns images into features, before they get length 1."""
        network = self.network
        return ImageEmbedder(
            network.embedder.to(self.device), network.view, self.engine, "unnormalised"
        )

    def embed(self, images: Images) -> Vectors:
        """Images -> vectors (N, D) of length 1.

        Raises:
            InputError: an image can't be read, or is of another kind.
        """
        every = [images] if isinstance(images, AnyImage) else list(images)
        return normalised(self.embedder(every))

    def search(
        self,
        images: Images,
        k: int = 5,
        where: str | None = None,
        threshold: float = -1.0,
        within: str | Sequence[str | None] | None = None,
        negatives: Images = (),
        combine: bool = False,
        fold_duplicates: bool = False,
        rerank: Rerank | None = None,
    ) -> Hits:
        """The nearest images of every query. An image of the index does not find itself.

        Args:
            images: one or several, each a path, bytes, a PIL image, an array or a tensor.
            k: hits of each query at most.
            where: a filter, such as "class == 'bed' and price < 200".
            threshold: hits of a lower cosine similarity are none.
            within: the class to search, or one for each query; None for all.
            negatives: images that the hits shall not look like.
            combine: whether all images are of one thing, and make one query together.
            fold_duplicates: whether near-duplicates of a better hit are folded into it.
            rerank: what orders the hits, see `retrieval.rerank`.

        Raises:
            InputError: an image can't be read, or the filter does not fit the columns.
        """
        question = Question(k, where, threshold, fold_duplicates, rerank)
        every = [images] if isinstance(images, AnyImage) else list(images)
        not_wanted = [negatives] if isinstance(negatives, AnyImage) else list(negatives)
        vectors = self.embed(every)
        names, own = [_name_of(n, each) for n, each in enumerate(every)], self.own_ids(every)
        minus = self.embed(not_wanted) if not_wanted else None
        if combine:
            out = set().union(*own, *self.own_ids(not_wanted))
            vectors, names, own = combined(vectors, minus)[None], [" + ".join(names)], [out]
        elif minus is not None:
            vectors = np.stack([combined(each[None], minus) for each in vectors])
        return self._answer(vectors, question, within, own, names)

    def search_vectors(
        self,
        vectors: Vectors,
        k: int = 5,
        where: str | None = None,
        threshold: float = -1.0,
        within: str | Sequence[str | None] | None = None,
        exclude: Sequence[Collection[int]] | None = None,
        fold_duplicates: bool = False,
        rerank: Rerank | None = None,
    ) -> Hits:
        """The same by vectors that were made before, such as `index.vector(id)`.

        Args:
            vectors: (Q, D) or (D,), of length 1.
            k: hits a query; the filters and options below are those of `search`.
            where: see there.
            threshold: see there.
            within: see there.
            exclude: of each query the ids of items that it does not find.
            fold_duplicates: see `search`.
            rerank: see `search`.
        """
        vectors = np.atleast_2d(np.asarray(vectors, np.float32))
        dimensions = self.store.generation.dimensions
        if vectors.shape[1] != dimensions:
            raise InputError(
                f"the vectors have {vectors.shape[1]} dimensions, and those of the index have "
                f"{dimensions}: they are of another network. Use index.embed."
            )
        question = Question(k, where, threshold, fold_duplicates, rerank)
        names = [f"vector {number}" for number in range(1, len(vectors) + 1)]
        return self._answer(vectors, question, within, exclude or [()] * len(vectors), names)

    def _answer(
        self,
        vectors: Vectors,
        question: Question,
        within: str | Sequence[str | None] | None,
        excluded: Sequence[Collection[int]],
        names: Sequence[str],
    ) -> Hits:
        places: list[str | None]
        if within is None or isinstance(within, str):
            places = [within] * len(vectors)
        else:
            places = list(within)
        for place in {place for place in places if place is not None}:
            check_class(place, pc.unique(self.items["class"]).to_pylist())
        return Hits(ask(self.store, vectors, question, places, excluded), names, self.image)

    def add(self, images: str | Path | Sequence[str | Path], wait: float = 10.0) -> dict[str, int]:
        """Embed more images; durable when it returns. Those that have changed are embedded again.

        Args:
            images: as in `build`.
            wait: seconds, for another process that changes the index.

        Returns:
            How many were "added", "changed", "removed" and "unchanged".
        """
        return add(self, places_of(images), wait)

    def remove(
        self, where: str | None = None, ids: Sequence[int] = (), wait: float = 10.0
    ) -> dict[str, int]:
        """Forget items; durable when it returns. The image files stay.

        Args:
            where: a filter on the columns; and, or
            ids: of the items.
            wait: seconds, for another process that changes the index.
        """
        return remove(self, where, ids, wait)

    def update(self, wait: float = 10.0) -> dict[str, int]:
        """Look again at what the index was built from: new and changed files are embedded, and
        those that are gone leave; durable when it returns."""
        return update(self, wait)

    def save(self) -> Path:
        """Where the index is. Every change is saved when it returns; there is nothing to do."""
        return self.store.folder

    def check(self) -> None:
        """Compare all files with their checksums.

        Raises:
            InputError: one is damaged.
        """
        self.store.check()
        _ = self.network


def _name_of(number: int, image: AnyImage) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {number + 1}"
