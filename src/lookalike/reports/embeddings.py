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
    """The test images of a run: their embeddings, and what a page shows of them.

    embeddings: of N images, ordered by id.
    paths: (N,) str, absolute.
    roles: (N,) str, as in `Records`.
    class_names: (C,) str, by label.
    """

    __test__ = False  # pytest takes every class named so for a test

    embeddings: Embeddings
    paths: NDArray[np.str_]
    roles: NDArray[np.str_]
    class_names: NDArray[np.str_]

    def __post_init__(self) -> None:
        lengths = [len(self.embeddings), len(self.paths), len(self.roles)]
        if len(set(lengths)) != 1:
            raise ValueError(f"embeddings, paths and roles differ in length: {lengths}")
        if self.embeddings.labels.max(initial=-1) >= len(self.class_names):
            raise ValueError(f"a label has no name: there are {len(self.class_names)} class names")

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
    again = f"`lookalike report runs={folder} embed=true`"
    try:
        embeddings, more = Embeddings.load_with(folder / FILE, "paths", "roles", "class_names")
        return TestedImages(embeddings, **more)
    except InputError as error:
        raise InputError(f"{error} {again} does so from the checkpoint.") from error
    except ValueError as error:
        raise InputError(
            f"{folder / FILE} does not fit together ({error}). Remove it; {again} makes it again."
        ) from error
