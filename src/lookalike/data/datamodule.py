"""RetrievalData: a source's records, transforms, sampler and miner -> loaders."""

import logging
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from lookalike.data.cache import CachedImages, as_setting, cache_key, cached_images
from lookalike.data.features import Features, kept_features
from lookalike.data.images import Batch, ImageBatches, ImageFiles, Images
from lookalike.data.records import Records
from lookalike.data.sampling import InOrder
from lookalike.device import usable_workers
from lookalike.errors import InputError
from lookalike.evaluation.protocol import assign_splits, without_validation

log = logging.getLogger(__name__)


class Source(Protocol):
    """A data set as it lies on disk."""

    def prepare(self) -> None:
        """Fetch or make what is missing; do nothing where all is there."""

    def records(self) -> Records:
        """Every image, with the set's own split if it has one."""
        ...


class Transform(Protocol):
    """A list of images, uint8 (3, h, w) -> uint8 (B, 3, H, W)."""

    short_side: int | None  # pixels that it needs; null for all there are

    def __call__(self, images: Sequence[Tensor]) -> Tensor: ...


class RetrievalData(LightningDataModule):
    """Everything between a data set and the learner: which images, which batches, which pairs.

    Args:
        source: reads the data set.
        transform: {"train": ..., "test": ...}.
        sampler: (ids (N,), labels (N,), batch_size) -> batches of ids to train on.
        miner: (embeddings (B, D), labels (B,)) -> pairs or triplets of the batch; the learner's.
        classes: names of those that take part; null for all.
        protocol, folds, fold: see `assign_splits`.
        root: folder to which the paths in split.csv are relative.
        batch_size: images a batch in training, on each device.
        eval_batch_size: images a batch when measuring.
        num_workers: processes that read images; 0 reads in the main process, null has one for
            each core.
        cache: "none" decodes files whenever they are needed; "disk" once, into `cache_folder`;
            "features" keeps there what a frozen backbone makes of them (see `keep_features`).
        cache_folder: shared by all runs.
        feature_views: random views of each training image whose features are kept; 0 trains on
            the features of the test view.
        holdout: whether the validation part is held out; otherwise it trains too.
        num_classes: training classes that are expected; null takes what the data has.
        seed: of the splits.
    """

    def __init__(
        self,
        source: Source,
        transform: dict[str, Transform],
        sampler: Callable[[NDArray[np.int64], NDArray[np.int64], int], Sampler[list[int]]],
        miner: nn.Module,
        classes: Sequence[str] | None = None,
        protocol: str = "zero_shot",
        folds: int = 4,
        fold: int = 0,
        root: str = "",
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int | None = 0,
        cache: Literal["none", "disk", "features"] = "none",
        cache_folder: str = "",
        feature_views: int = 4,
        holdout: bool = True,
        num_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_choices(cache, transform)
        self.source = source
        self.transform = transform
        self.make_sampler = sampler
        self.miner = miner
        self.classes = classes
        self.protocol = protocol
        self.folds = folds
        self.fold = fold
        self.root = root
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = usable_workers() if num_workers is None else num_workers
        self.cache = cache
        self.cache_folder = cache_folder
        self.feature_views = feature_views
        self.holdout = holdout
        self.expected_classes = num_classes
        self.seed = seed
        self.cached: CachedImages | None = None
        self.features: dict[str, Features] = {}  # of the "train" and the "test" view
        self._split_records: Records | None = None

    def prepare_data(self) -> None:
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read and split the records, once; Lightning calls this again for every stage.

        Raises:
            InputError: the data don't fit the protocol or the number of classes.
        """
        if self._split_records is not None:
            return
        own = self.source.records()
        own = own if self.classes is None else own.of_classes(self.classes)
        records = assign_splits(own, self.protocol, self.folds, self.fold, self.seed)
        records = records if self.holdout else without_validation(records)
        self.training_classes = np.unique(records.labels[records.ids("train")])
        found = len(self.training_classes)
        if self.expected_classes not in (None, found):
            raise InputError(
                f"Found {found} training classes, the config says {self.expected_classes}. Set "
                f"data.num_classes={found} (or null, to take what the data has), or check the data."
            )
        _warn_of_single_images(records)
        self._split_records = records
        if self.cache == "disk":
            self.cached = self._cache(records)
        self.training_labels = np.searchsorted(self.training_classes, records.labels)
        ids = records.ids("train")
        self.sampler = self.make_sampler(ids, self.training_labels[ids], self.batch_size)

    def _cache(self, records: Records) -> CachedImages:
        """Large enough for the view that needs most."""
        sides = [view.short_side or inf for view in self.transform.values()]
        short_side = None if inf in sides else int(max(sides))
        return cached_images(records.paths.tolist(), short_side, self.cache_folder, records.boxes)

    def keep_features(
        self, compute: Callable[[Tensor], Tensor], width: int, network: object
    ) -> None:
        """From here on, batches hold features instead of images, and no image is read again.

        Args:
            compute: images (B, 3, H, W) uint8 -> features (B, width), of a frozen backbone.
            network: whatever `compute` depends on, as a key.
        """
        records = self.records

        def kept(view: str, ids: NDArray[np.int64], views: int) -> Features:
            view_settings = repr(vars(self.transform[view]))
            key = cache_key(
                records.paths.tolist(),
                *as_setting(records.boxes),
                network,
                view_settings,
                views,
                self.seed,
                ids.tolist(),
            )
            images = ImageBatches(self._images(view), records.labels, self.transform[view])
            batches = self._loader(images, InOrder(ids, self.eval_batch_size), persistent=False)
            shape = (len(records), width)
            return kept_features(self.cache_folder, key, compute, [batches] * views, shape)

        measured = kept("test", np.arange(len(records)), 1)
        trained = (
            kept("train", records.ids("train"), self.feature_views)
            if self.feature_views
            else measured
        )
        self.features = {"train": trained, "test": measured}

    @property
    def records(self) -> Records:
        """All records with their splits; after `setup`."""
        if self._split_records is None:
            raise RuntimeError("call setup() first")
        return self._split_records

    @property
    def num_classes(self) -> int:
        """How many classes train."""
        return len(self.training_classes)

    @property
    def training_class_names(self) -> tuple[str, ...]:
        """Their names, in the order of the labels that the loss sees."""
        return tuple(self.records.class_names[label] for label in self.training_classes)

    def counts(self) -> dict[str, int]:
        """Images and classes of every part."""
        records = self.records
        parts = {split: records.ids(split) for split in ("train", "val", "test")}
        return {f"{split}_images": len(ids) for split, ids in parts.items()} | {
            f"{split}_classes": len(np.unique(records.labels[ids])) for split, ids in parts.items()
        }

    def write_split(self, file: str | Path) -> None:
        self.records.write(file, relative_to=self.root)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Random views in the sampler's batches; labels are 0..num_classes-1."""
        return self._loader(
            self._batches("train", self.training_labels), self.sampler, persistent=True
        )

    def train_dataloader_in_order(self) -> DataLoader[Batch]:
        """The training images as they are measured: test view, once each."""
        return self._measuring_loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._measuring_loader("val", persistent=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._measuring_loader("test")

    def _batches(self, view: str, labels: NDArray[np.int64]) -> ImageBatches:
        if self.features:
            return ImageBatches(self.features[view], labels, torch.stack)
        return ImageBatches(self._images(view), labels, self.transform[view])

    def _images(self, view: str) -> Images:
        if self.cached is not None:
            return self.cached
        records = self.records
        return ImageFiles(records.paths, self.transform[view].short_side, records.boxes)

    def _measuring_loader(self, split: str, persistent: bool = False) -> DataLoader[Batch]:
        records = self.records
        return self._loader(
            self._batches("test", records.labels),
            InOrder(records.ids(split), self.eval_batch_size),
            persistent,
        )

    def _loader(
        self, images: ImageBatches, sampler: Sampler[list[int]], persistent: bool
    ) -> DataLoader[Batch]:
        workers = 0 if self.features else self.num_workers  # there is nothing to wait for
        return DataLoader(
            images,
            sampler=sampler,
            batch_size=None,  # the sampler yields whole batches
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),  # copies to the GPU then overlap with its work
            persistent_workers=persistent and workers > 0,  # not started anew every epoch
        )


def _check_choices(cache: str, transform: dict[str, Transform]) -> None:
    if cache not in ("none", "disk", "features"):
        raise InputError(f"data.cache={cache} is not known; it is none, disk or features")
    for name, view in transform.items():
        if not hasattr(view, "short_side"):
            raise InputError(
                f"data.transform.{name} takes one image at a time, or does not say how many pixels "
                "it needs. Wrap it: _target_: lookalike.data.transforms.EachImage, transform: it."
            )


def _warn_of_single_images(records: Records) -> None:
    for split in ("train", "val", "test"):
        counts = np.bincount(records.labels[records.ids(split)], minlength=records.num_classes)
        single = [records.class_names[label] for label in np.flatnonzero(counts == 1)]
        if single:
            log.warning(
                "%d %s classes have one image (%s): it has no positive but itself; in training it "
                "is repeated (of explicit pairs and triplets it is only ever the unlike image), in "
                "measuring its query is left out. Add images or drop the class.",
                len(single),
                split,
                ", ".join(single[:5]) + (", ..." if len(single) > 5 else ""),
            )
