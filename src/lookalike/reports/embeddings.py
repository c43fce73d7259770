"""The test embeddings of a run, kept: embeddings.npz, for `lookalike report` and for notebooks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.reports.finished import FinishedRun
from lookalike.retrieval.embeddings import Embeddings

FILE = "embeddings.npz"


@dataclass(frozen=True, eq=False)
class TestedImages:
    """embeddings of N test images; paths (N,) str, absolute; roles (N,) as in Records;
    class_names (C,), by label."""

    __test__ = False  # pytest takes every class named so for a test

    embeddings: Embeddings
    paths: NDArray[np.str_]
    roles: NDArray[np.str_]
    class_names: NDArray[np.str_]

    @property
    def queries(self) -> Embeddings:
        return self.embeddings[self.roles != "gallery"]

    @property
    def gallery(self) -> Embeddings:
        return self.embeddings[self.roles != "query"]

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of images by their record id, of any shape; ids are ascending."""
        return np.searchsorted(self.embeddings.ids, ids)

    def class_of(self, row: int) -> str:
        return str(self.class_names[self.embeddings.labels[row]])


class KeepEmbeddings:
    """embeddings.npz: vectors (N, D) float32 of the test images, labels, ids, paths, names."""

    def write(self, run: FinishedRun) -> list[Path]:
        return [write_embeddings(run.folder, run.embeddings, run.records)]


def write_embeddings(folder: Path, embeddings: Embeddings, records: Records) -> Path:
    """embeddings.npz: the embeddings, and what is known of their images."""
    return embeddings.save(
        folder / FILE,
        paths=np.array([str(Path(path).absolute()) for path in records.paths[embeddings.ids]]),
        roles=records.roles[embeddings.ids],
        class_names=np.array(records.class_names),
    )


def read_embeddings(folder: Path) -> TestedImages | None:
    """What a run kept, or None.

    Raises:
        InputError: there is a file, but not one of these.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        embeddings, more = Embeddings.load_with(folder / FILE, "paths", "roles", "class_names")
    except InputError as error:
        raise InputError(
            f"{error} `lookalike report runs={folder} embed=true` does so from the checkpoint."
        ) from error
    return TestedImages(embeddings, **more)
