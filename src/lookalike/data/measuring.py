"""The images of a data set as they are measured: in order, in the test view, a part at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from lookalike.data.cache import CachedImages, cached_images
from lookalike.data.images import Batch, ImageBatches, Images, Transform, batch_loader, files_of
from lookalike.data.records import Records
from lookalike.data.sampling import InOrder
from lookalike.errors import InputError

Cache = Literal["none", "disk", "features"]


@dataclass(frozen=True, eq=False)
class MeasuredImages:
    """Records with their splits, and how their images are read.

    records: with a split for each.
    transform: the "train" and the "test" view; measuring takes the second.
    batch_size: images a batch.
    num_workers: processes that read; null has one for each core.
    cached: the images decoded once; None reads the files.
    """

    records: Records
    transform: Mapping[str, Transform]
    batch_size: int = 64
    num_workers: int | None = 0
    cached: CachedImages | None = None

    def images(self, view: str) -> Images:
        """By record id, no larger than a view needs."""
        if self.cached is not None:
            return self.cached
        return files_of(self.records, self.transform[view].short_side)

    def batches(self, view: str = "test") -> ImageBatches:
        """Views with their labels, indexed with a list of record ids."""
        return ImageBatches(self.images(view), self.records.labels, self.transform[view])

    def loader(
        self, ids: NDArray[np.int64], view: str = "test", persistent: bool = False
    ) -> DataLoader[Batch]:
        """A pass over some records in order; under distributed training over this rank's share.

        Args:
            ids: (M,) of the records.
            view: "train" or "test".
            persistent: whether the processes that read live on for the next pass.
        """
        in_order = InOrder(ids, self.batch_size)
        return batch_loader(self.batches(view), in_order, self.num_workers, persistent)

    def counts(self) -> dict[str, int]:
        """Images and classes of every part, such as "train_images" and "test_classes"."""
        parts = {split: self.records.ids(split) for split in ("train", "val", "test")}
        return {f"{split}_images": len(ids) for split, ids in parts.items()} | {
            f"{split}_classes": len(np.unique(self.records.labels[ids]))
            for split, ids in parts.items()
        }


def check_reading(transform: Mapping[str, Transform], cache: Cache) -> None:
    """Raises InputError where there is no such cache, or a view does not fit `Transform`."""
    if cache not in get_args(Cache):
        raise InputError(f"data.cache={cache} is not known; it is none, disk or features")
    for name, view in transform.items():
        if not hasattr(view, "short_side"):
            raise InputError(
                f"data.transform.{name} takes one image at a time, or does not say how many pixels "
                "it needs. Wrap it: _target_: lookalike.data.transforms.EachImage, transform: it."
            )


def decoded_once(
    records: Records, transform: Mapping[str, Transform], cache: Cache, folder: str | Path
) -> CachedImages | None:
    """For the cache "disk", decoded images that are large enough for the view that needs most."""
    if cache != "disk":
        return None
    sides = [view.short_side or inf for view in transform.values()]
    short_side = None if inf in sides else int(max(sides))
    return cached_images(records.paths.tolist(), short_side, folder, records.boxes)
