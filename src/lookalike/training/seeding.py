"""Every training step begins with a seed of its own."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lookalike.data.seeding import seed_everything, seed_of


class SeedEachStep(Callback):
    """Makes what a step draws (dropout, triplets) a function of the seed, the epoch and the batch.

    What was measured before, computed instead of read from a cache, or trained before a resume thus
    doesn't change the training.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        over_all_ranks = batch_idx * trainer.world_size + trainer.global_rank
        seed_everything(seed_of(self.seed, trainer.current_epoch, over_all_ranks))
