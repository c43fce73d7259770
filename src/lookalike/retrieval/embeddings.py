"""Embeddings: a set of images as unit vectors, and how they are made from a loader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from re import fullmatch
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lookalike.data.images import Batch
from lookalike.errors import InputError
from lookalike.files import writing
from lookalike.models.racing import Racing
from lookalike.notebook import SHOWN, paragraph, table
from lookalike.progress import track

FINITE_AT_ONCE = 4096  # rows
COLUMNS = ("vectors", "labels", "ids", "exclusion_ids")  # of a saved file


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A set of images as vectors.

    vectors: (N, D) float32, of length 1.
    labels: (N,) int64.
    ids: (N,) int64, all different.
    exclusion_ids: (N,) int64, by default the ids; gallery items with a query's own are left out of
        its ranking (see `Records.exclusion_ids`). Images with the same one share their label.
    fingerprint: 16 hexadecimal digits of the network that made them; empty where it is not known.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    exclusion_ids: NDArray[np.int64] = None  # type: ignore[assignment]  # the ids, once it is made
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.exclusion_ids is None:
            object.__setattr__(self, "exclusion_ids", self.ids)
        self._check_columns()
        if not _finite(self.vectors):
            raise InputError(
                "embeddings hold NaN or infinity: the training has diverged. Lower the learning "
                "rate, clip the gradient (trainer.gradient_clip_val=1), or use precision 32."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | NDArray) -> "Embeddings":
        vectors, labels, ids, exclusion_ids = (column[rows] for column in self._columns())
        return Embeddings(vectors, labels, ids, exclusion_ids, self.fingerprint)

    def shortened(self, length: int) -> "Embeddings":
        """The first numbers of each vector, at length 1; for networks that were trained for it."""
        first = self.vectors[:, :length]
        norms = np.linalg.norm(first, axis=1, keepdims=True)
        return replace(self, vectors=first / np.maximum(norms, np.float32(1e-12)), fingerprint="")

    def _repr_html_(self) -> str:
        size, classes = self.vectors.shape[1], len(np.unique(self.labels))
        by = f", by the network {self.fingerprint}" if self.fingerprint else ""
        begun = [", ".join(f"{x:.3f}" for x in v[:4]) + ", ..." for v in self.vectors[:SHOWN]]
        return paragraph(
            f"{len(self)} embeddings of {size} dimensions, {classes} classes{by}"
        ) + table(["id", "label", "vector"], zip(self.ids, self.labels, begun, strict=False))

    def save(self, file: str | Path, **more: NDArray) -> Path:
        """Write plain arrays into one compressed .npz file, whole or not at all; returns its path.

        Args:
            file: replaced if it exists.
            more: further arrays, by name.
        """
        arrays: dict[str, Any] = dict(zip(COLUMNS, self._columns(), strict=True))
        arrays |= {"fingerprint": np.array(self.fingerprint), **more}
        with writing(file, "wb") as stream:
            np.savez_compressed(stream, **arrays)
        return Path(file)

    @classmethod
    def load(cls, file: str | Path) -> "Embeddings":
        """What `save` wrote; no pickle is read.

        Raises:
            InputError: there is no such file, or it holds no embeddings.
        """
        return cls.load_with(file)[0]

    @classmethod
    def load_with(cls, file: str | Path, *more: str) -> tuple["Embeddings", dict[str, NDArray]]:
        """The same, and further arrays by name.

        Raises:
            InputError: there is no such file, or it lacks one of the arrays.
        """
        if not Path(file).is_file():
            raise InputError(
                f"no embeddings at {Path(file).resolve()}. Give a file that `Embeddings.save` "
                "wrote, for example the embeddings.npz of a run."
            )
        try:
            with Path(file).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                columns = [arrays[name] for name in COLUMNS]
                loaded = cls(*columns, fingerprint=_checked(arrays["fingerprint"]))
                if len(np.unique(loaded.ids)) < len(loaded):
                    raise ValueError("an id stands there more than once")
                return loaded, {name: arrays[name] for name in more}
        except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for damaged bytes
            raise InputError(
                f"{file} can't be read as embeddings ({error}). Remove it, and embed the images "
                "again."
            ) from error

    def _check_columns(self) -> None:
        found = [(column.dtype, column.ndim) for column in self._columns()]
        if found != [(np.float32, 2), *3 * [(np.int64, 1)]]:
            seen = [f"{column.dtype} {column.shape}" for column in self._columns()]
            raise ValueError(
                "vectors must be float32 (N, D), labels, ids and exclusion_ids int64 (N,), not "
                f"{', '.join(seen)}"
            )
        lengths = [len(column) for column in self._columns()]
        if len(set(lengths)) != 1:
            raise ValueError(f"vectors, labels, ids and exclusion_ids differ in length: {lengths}")

    def _columns(self) -> tuple[NDArray, ...]:
        return (self.vectors, self.labels, self.ids, self.exclusion_ids)


def concatenated(parts: Sequence[Embeddings]) -> Embeddings:
    """What several networks make of the same images, as one: vectors side by side, at length 1.

    The 512-d setting of Musgrave et al., ECCV 2020: a network from each of four folds, 128-d each.

    Raises:
        ValueError: they are not of the same images.
    """
    first, *others = parts
    if any(not np.array_equal(first.ids, other.ids) for other in others):
        raise ValueError("embeddings of different images can't be concatenated")
    vectors = np.concatenate([part.vectors for part in parts], axis=1)
    return replace(
        first,
        vectors=vectors / np.float32(np.sqrt(len(parts))),
        fingerprint=_together([part.fingerprint for part in parts]),
    )


def _finite(vectors: NDArray[np.float32]) -> bool:
    """Whether there is neither NaN nor infinity; in parts, so that no mask is as large as they."""
    parts = range(0, len(vectors), FINITE_AT_ONCE)
    return all(np.isfinite(vectors[part : part + FINITE_AT_ONCE]).all() for part in parts)


def _checked(fingerprint: NDArray) -> str:
    """As it was saved; raises ValueError where it is none."""
    if not fullmatch("([0-9a-f]{16})?", str(fingerprint)):
        raise ValueError(f"the fingerprint {fingerprint} is not 16 hexadecimal digits")
    return str(fingerprint)


def _together(fingerprints: Sequence[str]) -> str:
    """Of several networks as one; empty where one of them is not known."""
    if len(fingerprints) == 1 or not all(fingerprints):
        return fingerprints[0] if len(fingerprints) == 1 else ""
    return sha256(" ".join(fingerprints).encode()).hexdigest()[:16]


def count_relevant(queries: Embeddings, gallery: Embeddings) -> NDArray[np.int64]:
    """Gallery items of each query's class that may be in its ranking, (Q,)."""
    of_class = _occurrences(queries.labels, gallery.labels)
    return of_class - _occurrences(queries.exclusion_ids, gallery.exclusion_ids)


def largest_exclusion(embeddings: Embeddings) -> int:
    """The most images of one exclusion id."""
    return int(np.unique(embeddings.exclusion_ids, return_counts=True)[1].max(initial=0))


def _occurrences(wanted: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    ordered = np.sort(values)
    return np.searchsorted(ordered, wanted, "right") - np.searchsorted(ordered, wanted, "left")


def collect(parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Embeddings:
    """Batches of (vectors (B, D), labels (B,), ids (B,)) -> one set, each id once, ordered."""
    if not parts:
        return Embeddings(
            np.zeros((0, 1), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
        )
    vectors, labels, ids = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    _, rows = np.unique(ids, return_index=True)
    return Embeddings(vectors.astype(np.float32), labels, ids)[rows]


@torch.inference_mode()
def embed(
    compute: Callable[[Tensor], Tensor],
    batches: DataLoader[Batch],
    device: torch.device,
    description: str = "Embedding",
) -> Embeddings:
    """Run a network over a loader, with a progress bar.

    Args:
        compute: images (B, 3, H, W) uint8 -> (B, D), in evaluation mode, on the device.
        batches: of the images.
        device: where to compute.
    """
    if isinstance(compute, Racing):
        compute.expect(len(batches))
    parts = []
    for images, labels, ids in track(batches, description, total=len(batches)):
        vectors = compute(images.to(device, non_blocking=True)).float()
        parts.append((vectors.cpu(), labels, ids))
    return collect(parts)
