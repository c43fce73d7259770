"""RetrievalData: a source's records, transforms, sampler and miner -> loaders."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from lookalike.data.cache import as_setting, cache_key
from lookalike.data.features import Features, kept_features
from lookalike.data.images import Batch, ImageBatches, Transform, batch_loader
from lookalike.data.measuring import Cache, MeasuredImages, check_reading, decoded_once
from lookalike.data.records import Records
from lookalike.data.sampling import InOrder
from lookalike.data.sources.source import Source
from lookalike.data.splits import split_records
from lookalike.device import usable_workers
from lookalike.errors import InputError

log = logging.getLogger(__name__)


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
        cache: Cache = "none",
        cache_folder: str = "",
        feature_views: int = 4,
        holdout: bool = True,
        num_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_reading(transform, cache)
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
        self.cache: Cache = cache
        self.cache_folder = cache_folder
        self.feature_views = feature_views
        self.holdout = holdout
        self.expected_classes = num_classes
        self.seed = seed
        self.features: dict[str, Features] = {}  # of the "train" and the "test" view
        self._measured: MeasuredImages | None = None

    def prepare_data(self) -> None:
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read and split the records, once; Lightning calls this again for every stage.

        Raises:
            InputError: the data don't fit the protocol or the number of classes.
        """
        if self._measured is not None:
            return
        records = split_records(
            self.source.records(),
            self.classes,
            self.protocol,
            self.folds,
            self.fold,
            self.holdout,
            self.seed,
        )
        self.training_classes = np.unique(records.labels[records.ids("train")])
        self._check_number_of_classes()
        _warn_of_single_images(records)
        self._measured = MeasuredImages(
            records,
            self.transform,
            self.eval_batch_size,
            self.num_workers,
            decoded_once(records, self.transform, self.cache, self.cache_folder),
        )
        self.training_labels = np.searchsorted(self.training_classes, records.labels)
        ids = records.ids("train")
        self.sampler = self.make_sampler(ids, self.training_labels[ids], self.batch_size)

    def _check_number_of_classes(self) -> None:
        found = self.num_classes
        if self.expected_classes not in (None, found):
            raise InputError(
                f"Found {found} training classes, the config says {self.expected_classes}. Set "
                f"data.num_classes={found} (or null, to take what the data has), or check the data."
            )

    def keep_features(
        self, compute: Callable[[Tensor], Tensor], width: int, network: object
    ) -> None:
        """From here on, batches hold features instead of images, and no image is read again.

        Args:
            compute: images (B, 3, H, W) uint8 -> features (B, width), of a frozen backbone.
            network: whatever `compute` depends on, as a key.
        """
        records = self.records
        shape = (len(records), width)

        def kept(view: str, ids: NDArray[np.int64], views: int) -> Features:
            key = cache_key(
                records.paths.tolist(),
                *as_setting(records.boxes),
                network,
                repr(vars(self.transform[view])),
                views,
                self.seed,
                ids.tolist(),
            )
            batches = self.measured.loader(ids, view)
            return kept_features(self.cache_folder, key, compute, [batches] * views, shape)

        measured = kept("test", np.arange(len(records)), 1)
        trained = measured
        if self.feature_views:
            trained = kept("train", records.ids("train"), self.feature_views)
        self.features = {"train": trained, "test": measured}

    @property
    def measured(self) -> MeasuredImages:
        """The images with their splits, as they are measured; after `setup`."""
        if self._measured is None:
            raise RuntimeError("call setup() first")
        return self._measured

    @property
    def records(self) -> Records:
        """All records with their splits; after `setup`."""
        return self.measured.records

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
        return self.measured.counts()

    def write_split(self, file: str | Path) -> None:
        """Write every record with its split as CSV."""
        self.records.write(file, relative_to=self.root)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Random views in the sampler's batches; labels are 0..num_classes-1."""
        return self._loader("train", self.training_labels, self.sampler, persistent=True)

    def train_dataloader_in_order(self) -> DataLoader[Batch]:
        """The training images as they are measured: test view, once each."""
        return self._measuring_loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._measuring_loader("val", persistent=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._measuring_loader("test")

    def _measuring_loader(self, split: str, persistent: bool = False) -> DataLoader[Batch]:
        in_order = InOrder(self.records.ids(split), self.eval_batch_size)
        return self._loader("test", self.records.labels, in_order, persistent)

    def _loader(
        self,
        view: str,
        labels: NDArray[np.int64],
        sampler: Sampler[list[int]],
        persistent: bool = False,
    ) -> DataLoader[Batch]:
        """Of kept features where there are some; nothing needs to be waited for then."""
        if self.features:
            return batch_loader(ImageBatches(self.features[view], labels, torch.stack), sampler)
        images = ImageBatches(self.measured.images(view), labels, self.transform[view])
        return batch_loader(images, sampler, self.num_workers, persistent)


def _warn_of_single_images(records: Records) -> None:
    for split in ("train", "val", "test"):
        counts = np.bincount(records.labels[records.ids(split)], minlength=records.num_classes)
        single = [records.class_names[label] for label in np.flatnonzero(counts == 1)]
        if single:
            log.warning(
                "%d %s classes have one image (%s): it has no positive but itself; in training it "
                "is repeated (in explicit pairs and triplets it is only ever the negative image), "
                "in measuring its query is left out. Add images or drop the class.",
                len(single),
                split,
                ", ".join(single[:5]) + (", ..." if len(single) > 5 else ""),
            )
