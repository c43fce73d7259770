"""Checkpoints inside of epochs, so that a run that is cut off loses minutes and not an epoch."""

from pathlib import Path
from time import monotonic
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lookalike.data.datamodule import RetrievalData
from lookalike.distributed import highest
from lookalike.inference.checkpoint import KEY
from lookalike.interruption import Interrupted, interruption

VALIDATION = "epoch_loop.val_loop.batch_progress"  # its place in the state of Lightning's loops
UNFINISHED = {  # of a validation in its first batch: it is done again, from there
    "total": {"ready": 1, "started": 1, "processed": 0, "completed": 0},
    "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
    "is_last_batch": False,
}


class SaveInsideEpochs(Callback):
    """Saves what was trained of an epoch, every few minutes and before a signal ends the training.

    Such a checkpoint holds the whole epochs and the batches of the next one that were trained; a
    resumed training goes on with the batch after them. Batches whose gradients are still being
    accumulated are not counted. Processes that train together save and end together.

    A signal during a validation ends it at once, as the training before it is saved. Put this
    callback behind those whose work at the end of a validation may be cut off.

    Args:
        file: that is written, the same as after every epoch.
        every_minutes: between two checkpoints, at least; null for none but after signals.
        data: is told from which batch on to read.
    """

    def __init__(self, file: Path, every_minutes: float | None, data: RetrievalData) -> None:
        self.file = file
        self.every_minutes = every_minutes
        self.data = data
        self._last = monotonic()
        self._inside = False

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        ours = checkpoint[KEY]
        self.data.first_epoch, self.data.first_batch = ours["epochs"], ours.get("batches", 0)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._last = monotonic()
        ours = checkpoint[KEY]
        ours["batches"] = 0
        if self._inside:
            trained: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            ours |= {"epochs": trainer.current_epoch, "batches": trained.processed}
            ours["scores"] = {}
            if trainer.validating:
                checkpoint["loops"]["fit_loop"][VALIDATION] = UNFINISHED

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interruption.listen_again()  # Lightning has put its own handlers in place
        interruption.deferred = True
        self._last = monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop
        if not loop._should_accumulate() and not loop.epoch_loop.batch_progress.is_last_batch:
            self._save_or_stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interruption.listen_again()
        if _is_fitting(trainer):
            self._save_or_stop(trainer)
            interruption.deferred = trainer.world_size > 1

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interruption.deferred = _is_fitting(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interruption.listen_again()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interruption.deferred = False
        interruption.check()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        cut_off = isinstance(exception, Interrupted) and not interruption.deferred
        interruption.deferred = False
        if cut_off and trainer.validating and _is_fitting(trainer):
            self._save(trainer)

    def _save_or_stop(self, trainer: Trainer) -> None:
        """Save where it is time to, and end where a signal asks for it, on all ranks at once."""
        limit = self.every_minutes
        due = limit is not None and monotonic() - self._last >= 60 * limit
        asked = highest(2 * (interruption.received or 0) + due, trainer.strategy.root_device)
        if asked:
            self._save(trainer)
        if signum := asked // 2:
            raise Interrupted(signum)

    def _save(self, trainer: Trainer) -> None:
        self._inside = True
        try:
            trainer.save_checkpoint(self.file)
        finally:
            self._inside = False


def _is_fitting(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit"
