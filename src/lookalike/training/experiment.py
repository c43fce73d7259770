"""An experiment: what a configuration describes, built and ready to fit and measure."""

import csv
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from lookalike.config import build
from lookalike.data.datamodule import RetrievalData
from lookalike.data.features import description
from lookalike.data.seeding import seed_everything
from lookalike.device import best_precision, check_gpus
from lookalike.errors import InputError
from lookalike.evaluation.callback import RetrievalEvaluation
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import check_monitor
from lookalike.files import writing
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.losses.classifier import classifier_of
from lookalike.losses.mined import remark_on_miner
from lookalike.models.adapter import ResidualAdapter
from lookalike.models.heads import PrincipalComponents
from lookalike.provenance import weights_fingerprint
from lookalike.retrieval.embeddings import Embeddings, embed
from lookalike.training.best import KeptCheckpoint
from lookalike.training.checkpointing import CarryConfig, WholeCheckpoints
from lookalike.training.describe import DescribeRun
from lookalike.training.divergence import StopAtDivergence
from lookalike.training.learner import MetricLearner
from lookalike.training.resume import check_fits
from lookalike.training.saving import SaveInsideEpochs
from lookalike.training.scope import LossScope
from lookalike.training.seeding import SeedEachStep
from lookalike.training.throughput import Throughput

log = logging.getLogger(__name__)


class Experiment:
    """Data, learner and trainer of one fit.

    Args:
        config: of `train`. It learns what only the data and the network know: how many classes
            train, the size of the embedding, and what suits the device.
        folder: for checkpoints and metrics.csv.
    """

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.throughput = Throughput()  # first: it takes the time of all that follows
        check_gpus(config.trainer.accelerator, config.trainer.devices)
        seed_everything(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.plan: Evaluation = build(config.evaluation)
        self.data = open_data(config)
        if config.trainer.precision == "auto":
            config.trainer.precision = best_precision(config.trainer.accelerator)
        self.scope = LossScope(config.loss_scope, config.seed)
        self.learner = self._make_learner()
        records, class_names = self.data.records, self.data.training_class_names
        classifier = classifier_of(self.learner.loss, class_names)
        check_monitor(self.plan, classifier, records, records.ids("val", "test"))
        self.evaluation = RetrievalEvaluation(self.plan, records, class_names)
        self._check_limits()
        self.model_checkpoints = self._make_model_checkpoints()
        self.trainer = self._make_trainer()
        self.scope.prepare(self.data, self.learner.loss, self.trainer.world_size)
        if self.data.cache == "features":
            self._keep_features()
        self._start_head()
        for penalty in self.learner.penalties.values():
            penalty.begin(self.learner.embedder, self.trainer.strategy.root_device)

    def setting(self) -> str:
        """The device and what suits it, in a line."""
        device = self.trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        threads = f" with {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        layout = "channels_last" if self.config.channels_last else "channels first"
        return (
            f"{name}{threads}, {self.trainer.precision}, {layout}, "
            f"{self.data.num_workers} workers, data.cache={self.data.cache}"
            f"{self.scope.description(self.trainer.world_size)}"
        )

    @property
    def start(self) -> Path:
        """The checkpoint of the network before training, where that was measured."""
        return self.folder / "checkpoints" / "start.ckpt"

    def begin_curve(self, rows: list[dict[str, str]]) -> None:
        """Let metrics.csv begin with lines of the training that goes on here."""
        logger = self.trainer.loggers[0]
        assert isinstance(logger, CSVLogger)
        kept = [{name: value for name, value in row.items() if value} for row in rows]
        curve = logger.experiment
        curve.metrics_keys = sorted({name for row in kept for name in row})
        if kept:
            with writing(curve.metrics_file_path) as stream:
                lines = csv.DictWriter(stream, curve.metrics_keys, lineterminator="\r\n")
                lines.writeheader()
                lines.writerows(kept)

    @contextmanager
    def measuring(self, prefix: str, with_frozen: bool = False) -> Iterator[RetrievalEvaluation]:
        """Inside of it scores have a prefix, and the frozen backbone is measured beside."""
        evaluation, learner = self.evaluation, self.learner
        evaluation.prefix, evaluation.with_frozen, learner.with_frozen = prefix, *2 * [with_frozen]
        yield evaluation
        evaluation.prefix, evaluation.with_frozen, learner.with_frozen = "", False, False

    def validate(self) -> dict[str, float]:
        """Validation scores of the weights as they are."""
        self.trainer.validate(self.learner, datamodule=self.data, verbose=False)
        return self.evaluation.scores

    def fit(self, resume: str | None = None) -> Checkpoint:
        """Train; the checkpoint with the best validation score, or the last one without any.

        Args:
            resume: a checkpoint to continue from. A best.ckpt that lies in the folder counts
                if it is the best of the training that goes on.
        """
        if resume is not None:
            names, own = self.data.training_class_names, self.learner.state_dict()
            check_fits(read_checkpoint(resume), names, own)
        self.trainer.fit(self.learner, datamodule=self.data, ckpt_path=resume, weights_only=True)
        kept = self.model_checkpoints[0].best_model_path
        if not kept:
            raise InputError(
                "no epoch was validated, so there is no checkpoint. Set trainer.max_epochs above "
                "the epochs already done."
            )
        return read_checkpoint(self.folder / "checkpoints" / Path(kept).name)

    def test(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Test scores of a checkpoint, of this fit or a refit, told to this fit's loggers.

        The network is then without low-rank additions, as the checkpoint is.
        """
        self.learner.embedder.merge()
        self.learner.embedder.load_state_dict(checkpoint.part("embedder"))
        if checkpoint.class_names == self.data.training_class_names:  # a refit may have more
            self.learner.loss.load_state_dict(checkpoint.part("loss"))
        self.trainer.test(self.learner, datamodule=self.data, verbose=False)
        return self.evaluation.scores

    def loss_of(self, checkpoint: Checkpoint) -> nn.Module:
        """The loss of a checkpoint of this fit, with what it learned: a classifier, proxies."""
        self.learner.loss.load_state_dict(checkpoint.part("loss"))
        return self.learner.loss.cpu().eval()

    def _check_limits(self) -> None:
        """A share of the batches is at least one; Lightning would say so after the training."""
        loaders = {
            "train": self.data.train_dataloader, "val": self.data.val_dataloader,
            "test": self.data.test_dataloader,
        }  # fmt: skip
        for split, loader in loaders.items():
            share, batches = self.config.trainer[f"limit_{split}_batches"], len(loader())
            if isinstance(share, float) and 0 < share * batches < 1:
                raise InputError(
                    f"trainer.limit_{split}_batches={share} of {batches} batches is none: give a "
                    f"number of batches, or at least {1 / batches:.3g}."
                )

    def _make_learner(self) -> MetricLearner:
        embedder = build(self.config.embedder)
        self.config.embedding_size = embedder.embedding_size  # a head may have it from elsewhere
        loss = build(self.config.loss)
        if remark := remark_on_miner(loss, self.data.miner):
            log.warning(remark)
        parts = {"embedder": embedder, "loss": loss, "miner": self.data.miner}
        return build(self.config.learner, **parts, scope=self.scope)

    def _make_model_checkpoints(self) -> list[ModelCheckpoint]:
        """First the one whose checkpoint counts: the best epoch's, or the final one if nothing is
        validated. Then the last that was; Lightning's `save_last` skips what is not best."""
        if not self.data.holdout:
            return [self._model_checkpoint("final", save_on_train_epoch_end=True)]
        best = self._model_checkpoint("best", monitor=self.plan.monitored, mode=self.plan.mode)
        return [best, self._model_checkpoint("last")]

    def _model_checkpoint(self, name: str, **choice: Any) -> ModelCheckpoint:
        return KeptCheckpoint(self.folder / "checkpoints", name, **choice)

    def _make_trainer(self) -> pl.Trainer:
        resolved: Any = OmegaConf.to_container(self.config, resolve=True)
        loggers = build(self.config.logger)
        callbacks = list(build(self.config.callbacks).values())
        if not self.data.holdout:  # nothing is validated, so nothing can say when to stop
            callbacks = [each for each in callbacks if not isinstance(each, EarlyStopping)]
        epoch = len(self.data.train_dataloader())  # batches: a short epoch is logged, too
        trainer = build(
            self.config.trainer,
            default_root_dir=self.folder,  # where Lightning goes on with any hpc_ckpt_*.ckpt
            log_every_n_steps=min(self.config.trainer.log_every_n_steps, epoch),
            enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
            logger=[CSVLogger(self.folder, name="", version=""), *loggers.values()],
            callbacks=[
                StopAtDivergence(self.folder, self.data, self.config.resume.overrides),
                self.evaluation,  # before those that see its scores
                CarryConfig(resolved, self.evaluation, self.data.training_class_names),
                SeedEachStep(self.config.seed),
                DescribeRun(resolved, self.plan),
                self.throughput,
                build(self.config.averaging),
                SaveInsideEpochs(
                    self.folder / "checkpoints" / "last.ckpt",
                    self.config.checkpoint.every_minutes,
                    self.data,
                ),
                *callbacks,
                *self.model_checkpoints,
            ],
        )
        # Lightning replaces what a device lacks; `resolved` is what the callbacks record
        self.config.trainer.precision = resolved["trainer"]["precision"] = trainer.precision
        trainer.strategy.checkpoint_io = WholeCheckpoints(self.config.checkpoint.optimizer)
        return trainer

    def _keep_features(self) -> None:
        embedder = self.learner.embedder
        if not embedder.has_fixed_features:
            raise InputError(
                "data.cache=features needs a backbone and a pooling that do not learn: set "
                "freeze=all (and pooling=average, or pooling.learn=false), or data.cache=disk."
            )
        device = self.trainer.strategy.root_device
        measuring = embedder.for_measuring().to(device)

        def compute(images: Tensor) -> Tensor:
            return measuring.features(images.to(device, non_blocking=True))

        network = [str(embedder.memory_format)]
        for part in (embedder.backbone, embedder.pooling):
            network += [description(part), weights_fingerprint(part.state_dict())]
        self.data.cache_features(compute, embedder.width, network)

    def _start_head(self) -> None:
        """Start a head that is fitted to the features before training."""
        head = self.learner.embedder.head
        if isinstance(head, PrincipalComponents):
            head.start(torch.from_numpy(self._training_features().vectors))
        elif isinstance(head, ResidualAdapter) and head.whitening:
            features = self._training_features()
            head.start(torch.from_numpy(features.vectors), torch.from_numpy(features.labels))

    def _training_features(self) -> Embeddings:
        """Of the images that train, in the view in which they are measured."""
        device = self.trainer.strategy.root_device
        return embed(
            self.learner.embedder.for_measuring().to(device).features,
            self.data.train_dataloader_in_order(),
            device,
            "Features for the head",
        )


def open_data(config: DictConfig) -> RetrievalData:
    """The datamodule with its records read and split; config.data.num_classes is filled in."""
    data = build(config.data)
    data.prepare_data()
    data.setup()
    config.data.num_classes = data.num_classes
    return data


def refitting(config: DictConfig, epochs: int) -> DictConfig:
    """The configuration of a fit on training and validation classes together.

    Its learning rate falls over these epochs, whatever length the fit had that chose them.
    """
    changed = config.copy()
    changed.data.holdout = False
    changed.data.num_classes = None
    changed.trainer.max_epochs = epochs
    changed.trainer.limit_val_batches = 0
    changed.logger = {}
    return changed
