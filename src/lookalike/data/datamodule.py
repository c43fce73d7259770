"""RetrievalData: the LightningDataModule, from a data set to loaders of batches."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from lookalike.data.cache import boxes_key, cache_key
from lookalike.data.checking import check_heads
from lookalike.data.features import Features, cached_features, description
from lookalike.data.images import Batch, ImageBatches, Transform, batch_loader
from lookalike.data.lists import excluded
from lookalike.data.measurable import check_trainable
from lookalike.data.measuring import Cache, MeasuredImages, check_image_settings, disk_cache
from lookalike.data.records import Records
from lookalike.data.sampling import InOrder
from lookalike.data.seeding import SeededBatches, SeededDraws
from lookalike.data.sharing import drawn_together
from lookalike.data.sources.source import Source
from lookalike.data.splits import split_records
from lookalike.device import usable_workers
from lookalike.errors import InputError

log = logging.getLogger(__name__)


class RetrievalData(LightningDataModule):
    """Everything between a data set and the learner: which images, which batches, which pairs.

    Args:
        source: reads the data set.
        transform: view -> transform, for the views "train" and "test".
        sampler: ids (N,), labels (N,), batch size -> batches of ids to train on; given
            `shared=False`, the same ones in every process.
        miner: embeddings (B, D), labels (B,) -> pairs or triplets of the batch; the learner uses
            it.
        classes: names of the classes that are used; None for all.
        protocol: see `assign_splits`, as for `folds` and `fold`.
        folds: number of parts for cross-validation.
        fold: number of the part that is for validation.
        root: folder to which the paths in split.csv are relative; None leaves them as they are.
        batch_size: images a batch in training, on each device.
        eval_batch_size: images a batch when measuring.
        num_workers: processes that read images; 0 for reading in the main process, None for one
            for each core.
        cache: "none" decodes files whenever they are needed; "disk" decodes them once, into
            `cache_folder`; "features" caches their features from a frozen backbone there, see
            `cache_features`.
        cache_folder: where caches lie; all runs share them.
        feature_views: random views of each training image whose features are cached; 0 trains on
            the features of the test view.
        holdout: whether the validation part is held out; otherwise it is trained on too.
        num_classes: the expected number of training classes; None for any.
        seed: of the splits, and of the views whose features are cached.
        view_seed: of the random views in training.
        exclude: tables that name images to leave out, see `excluded`.
        name: of the data set, to which `source` may refer.

    Raises:
        InputError: there is no such cache, or a view does not fit the protocol `Transform`.
    """

    def __init__(
        self,
        source: Source,
        transform: dict[str, Transform],
        sampler: Callable[..., Sampler[list[int]]],
        miner: nn.Module,
        classes: Sequence[str] | None = None,
        protocol: str = "zero_shot",
        folds: int = 4,
        fold: int = 0,
        root: str | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int | None = 0,
        cache: Cache = "none",
        cache_folder: str = "",
        feature_views: int = 4,
        holdout: bool = True,
        num_classes: int | None = None,
        seed: int = 0,
        view_seed: int = 0,
        exclude: str | Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        check_image_settings(transform, cache)
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
        self.view_seed = view_seed
        self.exclude = exclude
        self.features: dict[str, Features] = {}  # of the "train" and the "test" view
        self.first_epoch, self.first_batch = 0, 0  # of a training that is resumed
        self._measured: MeasuredImages | None = None

    def prepare_data(self) -> None:
        """Download or draw the data set if it is missing."""
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read and split the records; later calls, one for each stage, do nothing.

        Raises:
            InputError: the data do not fit the protocol or the expected number of classes.
        """
        if self._measured is not None:
            return
        records = split_records(
            excluded(self.source.records(), self.exclude),
            self.classes,
            self.protocol,
            self.folds,
            self.fold,
            self.holdout,
            self.seed,
        )
        check_trainable(records, self.holdout, self.folds)
        check_heads(records)
        self.training_classes = np.unique(records.labels[records.ids("train")])
        self._check_number_of_classes()
        _warn_of_single_images(records)
        self._measured = MeasuredImages(
            records,
            self.transform,
            self.eval_batch_size,
            self.num_workers,
            disk_cache(records, self.transform, self.cache, self.cache_folder),
        )
        self.training_labels = np.searchsorted(self.training_classes, records.labels)
        ids = records.ids("train")
        self.sampler = self.make_sampler(ids, self.training_labels[ids], self.batch_size)

    def draw_together(self, processes: int) -> None:
        """Draw each batch as one for all processes, `batch_size` images for each of them."""
        ids, size = self.records.ids("train"), processes * self.batch_size
        self.sampler = drawn_together(self.make_sampler, ids, self.training_labels[ids], size)

    def _check_number_of_classes(self) -> None:
        found = self.num_classes
        if self.expected_classes not in (None, found):
            raise InputError(
                f"Found {found} training classes, the config says {self.expected_classes}. Set "
                f"data.num_classes={found} (or null, to take what the data has), or check the data."
            )

    def cache_features(
        self, compute: Callable[[Tensor], Tensor], width: int, network: object
    ) -> None:
        """Compute or load the features of all images; batches hold them instead of images then.

        Args:
            compute: images (B, 3, H, W) uint8 -> features (B, width), by a frozen backbone.
            width: of the features.
            network: a digest of all that `compute` depends on.

        Raises:
            InputError: an image can't be read.
        """

        def cached(view: str, ids: NDArray[np.int64], views: int) -> Features:
            key = self._features_key(network, view, ids, views)
            passes = [self.measured.loader(ids, view, number, self.seed) for number in range(views)]
            shape = (len(self.records), width)
            return cached_features(self.cache_folder, key, compute, passes, shape)

        measured = cached("test", self.records.every_id, 1)
        trained = measured
        if self.feature_views:
            trained = cached("train", self.records.ids("train"), self.feature_views)
        self.features = {"train": trained, "test": measured}

    def _features_key(self, network: object, view: str, ids: NDArray[np.int64], views: int) -> str:
        return cache_key(
            self.records.paths.tolist(),
            *boxes_key(self.records.boxes),
            network,
            description(self.transform[view]),
            views,
            (self.seed, self.eval_batch_size) if view == "train" else None,  # of the random views
            ids.tolist(),
        )

    @property
    def measured(self) -> MeasuredImages:
        """The images with their splits, as they are measured.

        Raises:
            RuntimeError: `setup` was not called.
        """
        if self._measured is None:
            raise RuntimeError("call setup() first")
        return self._measured

    @property
    def records(self) -> Records:
        """All records with their splits; call `setup` first."""
        return self.measured.records

    @property
    def num_classes(self) -> int:
        """The number of training classes."""
        return len(self.training_classes)

    @property
    def training_class_names(self) -> tuple[str, ...]:
        """The names of the training classes, in the order of the training labels."""
        return tuple(self.records.class_names[label] for label in self.training_classes)

    def counts(self) -> dict[str, int]:
        """The numbers of images and classes of every split; see `MeasuredImages.counts`."""
        return self.measured.counts()

    def write_split(self, file: str | Path) -> None:
        """Write every record with its split as CSV."""
        self.records.write(file, relative_to=self.root)

    def train_dataloader(self) -> DataLoader[Batch]:
        """The sampler's batches of random views; labels are 0..num_classes-1.

        Batches and views depend on the seeds and the epoch alone: not on the number of workers, nor
        on what was read before.
        """
        # Lightning sets the epoch of a resumed training after workers have begun to read
        seeded = SeededDraws(
            self.sampler, self.view_seed, self.first_epoch, skipped=self.first_batch
        )
        return self._loader("train", self.training_labels, seeded, persistent=True)

    def train_dataloader_in_order(self) -> DataLoader[Batch]:
        """The training images as they are measured: each once, in the test view, on every rank."""
        return self._measuring_loader("train", shared=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation images, each once, in the test view; labels are those of the records."""
        return self._measuring_loader("val", persistent=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test images, each once, in the test view; labels are those of the records."""
        return self._measuring_loader("test")

    def _measuring_loader(
        self, split: str, persistent: bool = False, shared: bool = True
    ) -> DataLoader[Batch]:
        in_order = InOrder(self.records.ids(split), self.eval_batch_size, shared)
        return self._loader(
            "test", self.records.labels, SeededDraws(in_order, 0, shared=shared), persistent
        )

    def _loader(
        self,
        view: str,
        labels: NDArray[np.int64],
        sampler: SeededDraws,
        persistent: bool = False,
    ) -> DataLoader[Batch]:
        """A loader of images, or of cached features, which need no processes to read them."""
        if self.features:
            batches = ImageBatches(self.features[view], labels, torch.stack)
            return batch_loader(SeededBatches(batches), sampler)
        batches = ImageBatches(self.measured.images(view), labels, self.transform[view])
        return batch_loader(SeededBatches(batches), sampler, self.num_workers, persistent)


def _warn_of_single_images(records: Records) -> None:
    for split in ("train", "val", "test"):
        counts = np.bincount(records.labels[records.ids(split)], minlength=records.num_classes)
        single = [records.class_names[label] for label in np.flatnonzero(counts == 1)]
        if single:
            log.warning(
                "%d %s classes have one image (%s) and so no positive pair. In training the image "
                "is repeated (in explicit pairs and triplets it is only a negative); in evaluation "
                "it is left out as a query. Add images or drop the class.",
                len(single),
                split,
                ", ".join(single[:5]) + (", ..." if len(single) > 5 else ""),
            )
