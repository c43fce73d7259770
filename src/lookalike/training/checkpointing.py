"""What every checkpoint carries, so that it alone rebuilds the network."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lookalike.evaluation.callback import RetrievalEvaluation
from lookalike.inference.checkpoint import FORMAT, KEY
from lookalike.inference.places import with_absolute_paths


class CarryConfig(Callback):
    """Puts the resolved configuration, the scores and the names of the training classes into
    every checkpoint that is saved.

    Args:
        config: resolved, as plain data.
        evaluation: has the scores of the last validation.
        class_names: of the training classes, in the order of their labels.
    """

    def __init__(
        self,
        config: dict[str, Any],
        evaluation: RetrievalEvaluation,
        class_names: Sequence[str],
    ) -> None:
        self.config = config
        self.evaluation = evaluation
        self.class_names = class_names

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = {
            "format": FORMAT,
            "config": {**self.config, "data": with_absolute_paths(self.config["data"])},
            "scores": dict(self.evaluation.scores),
            "epochs": trainer.current_epoch + 1 if trainer.global_step else 0,
            "class_names": list(self.class_names),
        }
