"""The evaluation callback: collects embeddings from Lightning's loops, scores and logs them."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from lookalike.data.records import Records
from lookalike.distributed import highest
from lookalike.evaluation.gathering import gather_embeddings
from lookalike.evaluation.geometry import spread
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import Measured, measure
from lookalike.losses.classifier import classifier_of
from lookalike.losses.matryoshka import lengths_of
from lookalike.retrieval.embeddings import Embeddings, collect

COLLAPSED = 1e-4  # mean cosine distance
FROZEN = "frozen/"  # before the names of the scores of the backbone as it began, without a head

log = logging.getLogger(__name__)


class RetrievalEvaluation(Callback):
    """Scores the validation and test images as queries and gallery.

    A step returns embeddings (B, D) float32 by what stands before the names of their scores: ""
    for those of the network, FROZEN for those of the frozen backbone that are measured beside.
    Under distributed training each rank scores its own queries against the gallery of all ranks.
    Values are then gathered by id, so the means equal those of a single process.

    Args:
        plan: what to measure.
        records: which images are queries, which are the gallery, and which gallery images are
            excluded for a query.
        class_names: of the training classes, in the order of their labels.
    """

    def __init__(self, plan: Evaluation, records: Records, class_names: Sequence[str] = ()) -> None:
        self.plan = plan
        self.records = records
        self.class_names = class_names
        self.prefix = ""  # before every logged name, such as "epoch_0/"
        self.with_frozen = False  # whether steps give the frozen backbone's embeddings, too
        self.scores: dict[str, float] = {}  # of the last evaluation
        self.tested = collect([])  # embeddings of the last test, from all ranks
        self.measured: dict[str, Measured] = {}  # the last evaluation, as a step names it
        self._batches: defaultdict[str, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the embeddings of an earlier pass that was interrupted."""
        self._batches = defaultdict(list)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the embeddings of a batch."""
        for which, vectors in outputs.items():
            self._batches[which].append((vectors.cpu(), batch.labels.cpu(), batch.ids.cpu()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score all batches and log the scores as val/<metric>."""
        self._score_and_log(pl_module, "val")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score all batches and log the scores as test/<metric>."""
        self._score_and_log(pl_module, "test")

    def _score_and_log(self, pl_module: LightningModule, split: str) -> None:
        """Score the collected batches, and log the scores as <prefix><split>/<metric>."""
        batches, self._batches = self._batches, defaultdict(list)
        own = collect(batches[""])
        device = pl_module.device
        everything = gather_embeddings(own, self.records, device)
        if split == "test":
            self.tested = everything
        if pl_module.trainer.global_step:
            _warn_of_collapse(everything)
        loss = pl_module.get_submodule("loss")
        classifier = classifier_of(loss, self.class_names)
        lengths = lengths_of(loss)
        found = measure(self.plan, own, everything, self.records, classifier, device, lengths)
        self.measured = {"": found}
        if self.with_frozen:
            self.measured[FROZEN] = self._beside(own, collect(batches[FROZEN]), found, device)
        self.scores = {
            f"{which or self.prefix}{split}/{name}": value
            for which, measured in self.measured.items()
            for name, value in measured.scores.items()
        }
        pl_module.log_dict(self.scores)

    def _beside(
        self, own: Embeddings, other: Embeddings, found: Measured, device: torch.device
    ) -> Measured:
        """The same of other embeddings of the same images; nothing is sought for equal ones."""
        if not highest(int(not np.array_equal(own.vectors, other.vectors)), device):
            return found.without_classifier()
        everything = gather_embeddings(other, self.records, device)
        return measure(self.plan, other, everything, self.records, None, device)


@rank_zero_only
def _warn_of_collapse(measured: Embeddings) -> None:
    distance = spread(measured.vectors)
    if distance < COLLAPSED:
        log.warning(
            "The embeddings have collapsed: the mean cosine distance between two images is %.1g, "
            "so that nothing is near or far. Try a tenth of the learning rates, miner=multi_"
            "similarity or loss.type_of_triplets=semihard instead of the hardest pairs, or a loss "
            "with proxies (loss=proxy_anchor).",
            distance,
        )


def stop_early(plan: Evaluation, patience: int) -> EarlyStopping:
    """The callback that ends training after `patience` epochs without a better monitored score."""
    return StopEarly(plan.monitored, mode=plan.mode, patience=patience)


class StopEarly(EarlyStopping):
    """Lightning's, for runs that may be resumed: arguments are Lightning's.

    It counts before checkpoints are saved, so that they hold the count, and obeys a new patience.
    """

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that had stopped, and was cut off in its test, doesn't train any further."""
        trainer.should_stop |= self.wait_count >= self.patience
