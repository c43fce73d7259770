"""Throughput: images per second of training, without validation and saving."""

from time import perf_counter
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Counts the images of training batches and the time they took, loading included.

    Both go on where a run is resumed.

    images: so far, on all ranks.
    seconds: that they took.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._since = 0.0
        self._began, self._before = perf_counter(), 0.0

    @property
    def images_per_second(self) -> float:
        """0 before the first batch."""
        return self.images / self.seconds if self.seconds else 0.0

    def wall_seconds(self) -> float:
        """Since the run began, without the time in which it was stopped."""
        return self._before + perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        wall = self.wall_seconds()
        return {"images": self.images, "seconds": self.seconds, "wall_seconds": wall}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
        self._before = state_dict["wall_seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = perf_counter()  # a resumed epoch doesn't start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = perf_counter()
        self.images += len(batch.labels) * trainer.world_size
        self.seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = perf_counter()
