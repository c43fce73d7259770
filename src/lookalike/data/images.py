"""Images by the batch: a list of record ids -> (images, labels, ids)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lookalike.data.decoding import decode


class Batch(NamedTuple):
    """images (B, 3, H, W) uint8, or V views of each (B, V, 3, H, W), or their kept features
    (B, width) float32; labels (B,) int64; ids (B,) int64, rows of the Records."""

    images: Tensor
    labels: Tensor
    ids: Tensor


class Images(Protocol):
    """Pictures by record id, uint8 (3, h, w) each, of any size."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Tensor: ...


class ImageFiles:
    """Pictures decoded from their files whenever they are asked for.

    Args:
        paths: (N,) str, indexed by id.
        short_side: pixels that are needed; see `decode`.
        boxes: (N, 4), to which pictures are cropped; see `Records`.
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
        return decode(self.paths[row], self.short_side, box)


class ImageBatches(Dataset[Batch]):
    """Views of images with their labels, a batch at a time.

    It is indexed with a list of ids (a sampler of batches and `batch_size=None` in the
    DataLoader), so that a batch is collated where it is read.

    Args:
        images: N pictures, indexed by id.
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
