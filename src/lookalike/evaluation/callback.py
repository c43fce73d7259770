"""The evaluation callback: collects embeddings from Lightning's loops, scores and logs them."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor

from lookalike.data.images import Batch
from lookalike.data.records import Records
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import of_all_ranks, score
from lookalike.losses.classifier import classifier_of
from lookalike.retrieval.embeddings import collect


class RetrievalEvaluation(Callback):
    """Scores the validation and test images as queries and gallery.

    Under distributed training each rank scores the queries that it embedded against the gallery
    of all ranks; values are put together by id, so that the means equal those of one process.

    Args:
        plan: what to measure.
        records: who asks, who is found, and which images never meet.
        class_names: of the training classes, in the order of their labels.
    """

    def __init__(self, plan: Evaluation, records: Records, class_names: Sequence[str] = ()) -> None:
        self.plan = plan
        self.records = records
        self.class_names = class_names
        self.prefix = ""  # before every logged name, such as "epoch_0/"
        self.scores: dict[str, float] = {}  # of the last evaluation
        self.tested = collect([])  # embeddings of the last test, from all ranks
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._parts = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._score_and_log(pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._parts = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._score_and_log(pl_module, "test")

    def _collect(self, vectors: Tensor, batch: Batch) -> None:
        self._parts.append((vectors.cpu(), batch.labels.cpu(), batch.ids.cpu()))

    def _score_and_log(self, pl_module: LightningModule, split: str) -> None:
        own = collect(self._parts)
        self._parts = []
        everything = of_all_ranks(own, self.records)
        if split == "test":
            self.tested = everything
        classifier = classifier_of(pl_module.get_submodule("loss"), self.class_names)
        scores = score(self.plan, own, everything, self.records, classifier)
        self.scores = {f"{self.prefix}{split}/{name}": value for name, value in scores.items()}
        pl_module.log_dict(self.scores)


def stop_early(plan: Evaluation, patience: int) -> EarlyStopping:
    """Ends the training after `patience` epochs without a better monitored score."""
    return EarlyStopping(plan.monitored, mode=plan.mode, patience=patience)
