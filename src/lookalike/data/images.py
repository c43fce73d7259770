"""Batches of images: a list of record ids -> (images, labels, ids)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lookalike.data.decoding import decode
from lookalike.data.records import Records
from lookalike.device import usable_workers
from lookalike.interruption import ignore_ctrl_c
from lookalike.memory import keep_freed_memory


class Batch(NamedTuple):
    """B images with their labels.

    images: (B, 3, H, W) uint8; with V views of each (B, V, 3, H, W); or cached features (B, width)
        float32.
    labels: (B,) int64.
    ids: (B,) int64, rows of the Records.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


class Transform(Protocol):
    """A function from B images of any size to a batch, which says how large they must be.

    short_side: pixels that it needs; None for images of full size.
    """

    short_side: int | None

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """B images, uint8 (3, h, w) each -> uint8 (B, 3, H, W) or (B, V, 3, H, W)."""
        ...


class Images(Protocol):
    """Images by record id, uint8 (3, h, w) each, of any size."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Tensor: ...


class ImageFiles:
    """Images by record id, uint8 (3, h, w) each, decoded from their files at every access.

    Args:
        paths: (N,) str, indexed by id.
        short_side: pixels that are needed, None for full size; see `decode`.
        boxes: (N, 4), to which images are cropped; see `Records`.
    """

    def __init__(
        self, paths: NDArray, short_side: int | None = None, boxes: NDArray | None = None
    ) -> None:
        self.paths = paths
        self.short_side = short_side
        self.boxes = boxes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        box = None if self.boxes is None else self.boxes[row]
        return decode(str(self.paths[row]), self.short_side, box)


class ImageBatches(Dataset[Batch]):
    """A data set of whole batches: views of images with their labels.

    It is indexed with a list of ids, which needs a sampler of batches and `batch_size=None` in the
    DataLoader. The process that reads a batch thus also collates it.

    Args:
        images: N images, indexed by id.
        labels: (N,) int64, indexed by id.
        transform: a list of uint8 (3, h, w) -> uint8 (B, 3, H, W).
    """

    def __init__(
        self,
        images: Images,
        labels: NDArray,
        transform: Callable[[list[Tensor]], Tensor],
    ) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, ids: Sequence[int]) -> Batch:
        return Batch(
            self.transform([self.images[row] for row in ids]),
            torch.from_numpy(self.labels[ids]),
            torch.tensor(list(ids)),
        )


def files_of(records: Records, short_side: int | None = None) -> ImageFiles:
    """The images of records, cropped to their boxes; see `ImageFiles`."""
    return ImageFiles(records.paths, short_side, records.boxes)


def batch_loader(
    images: Dataset[Batch],
    sampler: Sampler[Any],
    num_workers: int | None = 0,
    persistent: bool = False,
) -> DataLoader[Batch]:
    """A loader of the batches that a sampler yields.

    Args:
        images: indexed with what the sampler yields.
        sampler: of whole batches, such as lists of ids.
        num_workers: processes that read; 0 for reading in this one, None for one for each core.
        persistent: whether these processes stay alive after a pass.
    """
    workers = usable_workers() if num_workers is None else num_workers
    return DataLoader(
        images,
        sampler=sampler,
        batch_size=None,  # the sampler yields whole batches
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),  # lets copies to the GPU overlap with its work
        persistent_workers=persistent and workers > 0,  # not restarted every epoch
        generator=torch.Generator(),  # of its own: reading must not change what others draw
        worker_init_fn=_begin_worker,
    )


def _begin_worker(number: int) -> None:
    ignore_ctrl_c()
    keep_freed_memory()  # a fork has it from its parent; Python 3.14 starts workers anew
