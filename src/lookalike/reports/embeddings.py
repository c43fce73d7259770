"""The test embeddings of a run, kept: embeddings.npz, for `lookalike report` and for notebooks."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

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
    """Plain arrays in one compressed file; nothing is pickled."""
    file = folder / FILE
    np.savez_compressed(
        file,
        vectors=embeddings.vectors,
        labels=embeddings.labels,
        ids=embeddings.ids,
        exclusion_ids=embeddings.exclusion_ids,
        paths=np.array([str(Path(path).absolute()) for path in records.paths[embeddings.ids]]),
        roles=records.roles[embeddings.ids],
        class_names=np.array(records.class_names),
    )
    return file


def read_embeddings(folder: Path) -> TestedImages | None:
    """What a run kept, or None.

    Raises:
        InputError: there is a file, but not one of these.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return TestedImages(
                Embeddings(
                    *(arrays[name] for name in ("vectors", "labels", "ids", "exclusion_ids"))
                ),
                paths=arrays["paths"],
                roles=arrays["roles"],
                class_names=arrays["class_names"],
            )
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(
            f"{file} can't be read ({error}). Remove it, then `lookalike report runs={folder} "
            "embed=true` makes it anew from the checkpoint."
        ) from error
