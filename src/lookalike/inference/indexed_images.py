"""The images that an index holds: what is known of each, its file, its picture and its vector."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from PIL import Image

from lookalike.data.decoding import as_image, decode
from lookalike.data.records import BOX_COLUMNS
from lookalike.errors import InputError
from lookalike.inference.embedder import AnyImage
from lookalike.retrieval.arrow import is_one_of
from lookalike.retrieval.faiss_folder import FaissFolder

pc: Any = pyarrow.compute  # its functions are made at run time

Vectors = NDArray[np.float32]


class IndexedImages:
    """An open index without its network.

    Args:
        store: the folder.
        root: folder that relative paths start from; by default where the images were.
    """

    def __init__(self, store: FaissFolder, root: str | Path | None = None) -> None:
        self.store = store
        self.root = Path(root or store.generation.about["root"])

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        about = self.info()
        return f"<Index {about['path']}: {about['images']} images by {about['network']}>"

    @property
    def items(self) -> pa.Table:
        """One row for each image: id, path, class, the box, the columns of a table, and more."""
        return self.store.columns

    def info(self) -> dict[str, Any]:
        """What the index is: path, network, fingerprint, images, classes, dimensions, structure."""
        generation = self.store.generation
        return {
            "path": str(self.store.folder),
            "network": generation.about["network"],
            "fingerprint": generation.about["fingerprint"],
            "images": len(self),
            "classes": len(pc.unique(self.items["class"])),
            "dimensions": generation.dimensions,
            "metric": "cosine",
            "structure": generation.structure,
            "columns": self.items.column_names,
            "root": str(self.root),
            "sources": generation.about["sources"],
            "generation": generation.number,
            "bytes": sum(size for size, _ in generation.files.values()),
        }

    def vector(self, id: int) -> Vectors:
        """The vector (D,) of an item."""
        return self.store.vectors[self._row(id)]

    def path(self, id: int) -> Path:
        """Where the image of an item is."""
        return self.root / self.items["path"][self._row(id)].as_py()

    def image(self, id: int) -> Image.Image:
        """The picture of an item, cropped to its box.

        Raises:
            InputError: there is no such item, or its file can't be read.
        """
        path, row = self.path(id), self._row(id)
        self.check_there(path)
        return as_image(decode(path, box=[self.items[name][row].as_py() for name in BOX_COLUMNS]))

    def check_there(self, path: Path) -> None:
        """Raises InputError where an image of the index is missing."""
        if not path.is_file():
            raise InputError(
                f"the image {path} of {self.store.folder} is missing. If the images have moved, "
                f"give their new folder for {self.root}: root=<folder> (search: data.root=<folder>)"
            )

    def missing(self) -> list[Path]:
        """The image files that are not where they were, each once."""
        paths = (self.root / path for path in pc.unique(self.items["path"]).to_pylist())
        return [path for path in paths if not path.is_file()]

    def own_ids(self, images: Sequence[AnyImage]) -> list[set[int]]:
        """Of each image the ids of the items that are the same file as a whole."""
        return [self._own(image) if isinstance(image, str | Path) else set() for image in images]

    def _own(self, path: str | Path) -> set[int]:
        names = {os.path.abspath(path), os.path.realpath(path)}
        above = {f"{self.root}{os.sep}", f"{os.path.realpath(self.root)}{os.sep}"}
        names |= {name.removeprefix(root) for name in names for root in above}
        rows = np.flatnonzero(is_one_of(self.items["path"], sorted(names)))
        whole = [row for row in rows.tolist() if not self.items["right"][row].as_py()]
        return set(self.store.ids[whole].tolist())

    def _row(self, id: int) -> int:
        row = int(self.store.rows_of(np.array([id], np.int64))[0])
        if row < 0:
            raise InputError(f"no item has the id {id}; there are {len(self)} items")
        return row

    def close(self) -> None:
        """Give back the mapped files."""
        self.store.close()
