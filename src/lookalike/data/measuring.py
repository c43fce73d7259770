"""The images of a data set as they are measured: in order, in the test view, split by split."""

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
from lookalike.data.seeding import SeededBatches, SeededDraws
from lookalike.errors import InputError

Cache = Literal["none", "disk", "features"]


@dataclass(frozen=True, eq=False)
class MeasuredImages:
    """Records with their splits, and how their images are read.

    records: N of them, with a split for each.
    transform: view -> transform, for the views "train" and "test"; measuring uses "test".
    batch_size: images a batch.
    num_workers: processes that read; 0 for reading in this one, None for one for each core.
    cached: the decoded images, from the disk cache; None reads the files.
    """

    records: Records
    transform: Mapping[str, Transform]
    batch_size: int = 64
    num_workers: int | None = 0
    cached: CachedImages | None = None

    def images(self, view: str) -> Images:
        """All images by record id, no larger than a view needs."""
        if self.cached is not None:
            return self.cached
        return files_of(self.records, self.transform[view].short_side)

    def batches(self, view: str = "test") -> ImageBatches:
        """All views with their labels, indexed with a list of record ids."""
        return ImageBatches(self.images(view), self.records.labels, self.transform[view])

    def loader(
        self, ids: NDArray[np.int64], view: str = "test", number: int = 0, seed: int = 0
    ) -> DataLoader[Batch]:
        """A loader of some records, each once, in order; every rank reads all of them.

        Args:
            ids: (M,) int64, of the records.
            view: "train" or "test".
            number: of the pass over them; random views differ from pass to pass.
            seed: of random views.
        """
        in_order = InOrder(ids, self.batch_size, shared=False)
        draws = SeededDraws(in_order, seed, number, shared=False)
        return batch_loader(SeededBatches(self.batches(view)), draws, self.num_workers)

    def counts(self) -> dict[str, int]:
        """The numbers of images and classes of every split, as "train_images", "test_classes"."""
        parts = {split: self.records.ids(split) for split in ("train", "val", "test")}
        return {f"{split}_images": len(ids) for split, ids in parts.items()} | {
            f"{split}_classes": len(np.unique(self.records.labels[ids]))
            for split, ids in parts.items()
        }


def check_image_settings(transform: Mapping[str, Transform], cache: Cache) -> None:
    """Check the settings of how images are read.

    Raises:
        InputError: there is no such cache, or a view does not fit the protocol `Transform`.
    """
    if cache not in get_args(Cache):
        raise InputError(f"data.cache={cache} is not known; it is none, disk or features")
    for name, view in transform.items():
        if not hasattr(view, "short_side"):
            raise InputError(
                f"data.transform.{name} takes one image at a time, or does not say how many pixels "
                "it needs. Wrap it: _target_: lookalike.data.transforms.EachImage, transform: it."
            )


def disk_cache(
    records: Records, transform: Mapping[str, Transform], cache: Cache, folder: str | Path
) -> CachedImages | None:
    """The disk cache of all images, built if it is missing; None for another kind of cache.

    Args:
        records: whose images are cached.
        transform: view -> transform; the images are large enough for all of them.
        cache: what `data.cache` says.
        folder: where caches lie, each in a folder of its own.

    Raises:
        InputError: a file can't be read, or the disk has too little space.
    """
    if cache != "disk":
        return None
    sides = [view.short_side or inf for view in transform.values()]
    short_side = None if inf in sides else int(max(sides))
    return cached_images(records.paths.tolist(), short_side, folder, records.boxes)
