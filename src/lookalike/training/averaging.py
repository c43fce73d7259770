"""A moving average of the weights is measured and kept, while the weights themselves learn.

Polyak & Juditsky, SIAM J. Control Optim. 1992. Differs from Lightning's WeightAveraging: what a
loss remembers of earlier batches is not averaged, a checkpoint inside of a validation is right, and
the decay is less in the first steps, min(decay, (1 + n) / (10 + n)), as in TensorFlow's
ExponentialMovingAverage, so that short trainings gain, too.
"""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lookalike.training.checkpointing import TRAINED


class NoAveraging(Callback):
    """The weights as they are."""


class AverageWeights(Callback):
    """Validation measures the average, and checkpoints hold it as their weights.

    A checkpoint from which a training goes on holds the trained weights beside it. Put this
    callback behind the one that scores, and before those that save.

    Args:
        decay: share of the average that a step keeps, in [0, 1].
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._steps = 0  # of the optimiser, that the average has seen
        self._exchanged = False

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        trained = checkpoint.get(TRAINED)
        if trained:
            state = checkpoint["state_dict"]
            self._average = {name: state[name] for name in trained}
            pl_module.load_state_dict({**state, **trained})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own = _averaged(pl_module)
        kept = self._average or own
        self._average = {name: kept[name].to(value, copy=True) for name, value in own.items()}
        self._steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._steps:  # gradients are being accumulated
            return
        self._steps = trainer.global_step
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        for name, value in _averaged(pl_module).items():
            self._average[name].lerp_(value, 1 - decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._exchange(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._exchanged:
            self._exchange(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit":
            state = checkpoint["state_dict"]
            checkpoint[TRAINED] = {name: state[name] for name in self._average}
            checkpoint["state_dict"] = {**state, **self._average}

    def _exchange(self, pl_module: LightningModule) -> None:
        """Put the average into the place of the weights, and the weights into its place."""
        own = _averaged(pl_module)
        for name, average in self._average.items():
            kept = average.clone()
            average.copy_(own[name])
            own[name].copy_(kept)
        self._exchanged = not self._exchanged


def _averaged(module: LightningModule) -> dict[str, Tensor]:
    """The parameters, and the running statistics of the embedder; not a loss's memory."""
    parameters = dict(module.named_parameters())
    return {
        name: value
        for name, value in module.state_dict().items()
        if value.is_floating_point() and (name in parameters or name.startswith("embedder."))
    }
