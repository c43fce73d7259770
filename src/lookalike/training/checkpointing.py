"""What every checkpoint carries, so that it alone rebuilds the network, and how it is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from lookalike.errors import InputError
from lookalike.evaluation.callback import RetrievalEvaluation
from lookalike.inference.checkpoint import FORMAT, KEY, read_content, write_content
from lookalike.inference.places import with_absolute_paths
from lookalike.models.lora import merged_state

Keeps = Literal["last", "both", "none"]  # checkpoints with the optimiser's states
START, CHOSEN = "start", ("best", "final")  # names of checkpoints
OF_OPTIMIZER = ("optimizer_states", "lr_schedulers")  # what only resuming needs
TRAINED = "trained_weights"  # those that learn, where the checkpoint's are their average


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


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's way to the disk: checkpoints are written whole or not at all, with checksums.

    The optimiser's states are twice the network with Adam, and only a resumed training needs them.
    In a checkpoint without them, low-rank additions are part of the weights (see `models.lora`).

    Args:
        optimizer: which checkpoints have its states: "last" those that are not chosen by a score,
            "both" the chosen one too, "none" none; that of the network before training has empty
            ones, so that a training can begin from it.

    Raises:
        InputError: optimizer is something else.
    """

    def __init__(self, optimizer: Keeps = "last") -> None:
        if optimizer not in get_args(Keeps):
            raise InputError(
                f"checkpoint.optimizer={optimizer} is not known; it is last, both or none."
            )
        self.optimizer = optimizer

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write one; Lightning calls it on rank zero."""
        name = Path(path).stem
        kept = dict(checkpoint)
        for part in OF_OPTIMIZER:
            if name == START:
                kept[part] = []
            elif not self._has_optimizer(name):
                kept.pop(part, None)
        if name != START and not self._has_optimizer(name):
            kept.pop(TRAINED, None)
            kept["state_dict"] = merged_state(kept["state_dict"])
        write_content(Path(path), kept)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one, on the CPU, compared with its checksums; no code of the file runs."""
        return read_content(Path(path))

    def _has_optimizer(self, name: str) -> bool:
        return self.optimizer == "both" or (self.optimizer == "last" and name not in CHOSEN)
