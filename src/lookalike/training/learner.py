"""MetricLearner, the LightningModule: embed, mine, loss, optimise."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lookalike.data.images import Batch
from lookalike.distributed import make_buffers_equal
from lookalike.errors import InputError
from lookalike.evaluation.callback import FROZEN
from lookalike.losses.unsupported import translate_errors
from lookalike.models.embedder import Embedder
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.models.engines import Compute
from lookalike.models.lora import LowRank
from lookalike.models.racing import Racing
from lookalike.training.chunks import embed_in_chunks
from lookalike.training.groups import LAYER_DECAY, parameter_groups
from lookalike.training.penalty import Penalty
from lookalike.training.scope import LossScope
from lookalike.training.settings import obey, same_groups

log = logging.getLogger(__name__)

OF_BACKBONE = ("backbone", "thawed")  # names of learning rates


class MetricLearner(LightningModule):
    """Trains an Embedder.

    Args:
        embedder: images (B, 3, H, W) uint8 -> embeddings (B, D) float32 of length 1.
        loss: (embeddings, labels (B,) int64 in 0..C-1, mined indices or None) -> scalar; its
            own parameters (proxies, a classifier) are trained too.
        miner: (embeddings, labels) -> indices of pairs or triplets, or None for all.
        optimizer: called with parameter groups.
        scheduler: called with the optimiser and the number of optimiser steps.
        learning_rate: of the "backbone", of what of it is "thawed" later, of the "head" (pooling
            and head) and of the "loss"; "layer_decay", see `parameter_groups`.
        embedding: what runs the network when it is measured.
        planned_epochs: the length of the schedule in epochs, if training ends before it; null
            for the Trainer's.
        scope: which images the loss compares where several processes train.
        chunk_size: images that the network holds at once; null for the whole batch.
        decay_norms: whether weight decay applies to norms and biases, see `parameter_groups`.
        penalties: what is added to the loss, by name.
    """

    def __init__(
        self,
        embedder: Embedder,
        loss: nn.Module,
        miner: nn.Module,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        learning_rate: Mapping[str, float],
        embedding: EmbeddingEngine,
        planned_epochs: int | None = None,
        scope: LossScope = LossScope(),  # noqa: B008 - it can't be changed
        chunk_size: int | None = None,
        decay_norms: bool = True,
        penalties: Mapping[str, Penalty] | None = None,
    ) -> None:
        super().__init__()
        self.embedder = embedder
        self.loss = loss
        self.miner = miner
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.learning_rate = learning_rate
        self.embedding = embedding
        self.planned_epochs = planned_epochs
        self.scope = scope
        self.chunk_size = chunk_size
        self.decay_norms = decay_norms
        self.penalties = penalties or {}
        self.with_frozen = False  # whether the frozen backbone is measured beside the network
        self._measure: Compute
        self._beside: Callable[[Tensor], dict[str, Tensor]]

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) uint8 -> embeddings (B, D) float32 of length 1."""
        return self.embedder(images)

    def description(self) -> list[str]:
        """What doesn't learn, and what learns at another rate, in lines for the log."""
        backbone = self.embedder.backbone
        learning = [each.numel() for each in backbone.parameters() if each.requires_grad]
        of_lora = [module for module in backbone.modules() if isinstance(module, LowRank)]
        lines = [self.embedder.freeze.description(backbone)]
        if of_lora:
            lines.append(f"LoRA: additions to {len(of_lora)} weights, {sum(learning):,} parameters")
        if self.learning_rate.get(LAYER_DECAY, 1.0) != 1:
            groups = [each for each in self._parameter_groups() if each["name"] in OF_BACKBONE]
            rates = sorted({group["lr"] for group in groups}) or [0.0]
            lines.append(
                f"{len(rates)} learning rates in the backbone, {rates[0]:.3g} to {rates[-1]:.3g}"
            )
        return [line for line in lines if line]

    @property
    def learns(self) -> bool:
        """Whether any parameter learns, now or later."""
        now = any(parameter.requires_grad for parameter in self.parameters())
        return now or bool(self.embedder.freeze.thawing(self.embedder.backbone))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """An optimiser of another kind, or of other parameters, begins anew."""
        fresh = self.make_optimizer(self._parameter_groups())
        saved = checkpoint["optimizer_states"]
        if saved and not same_groups(saved[0], fresh.state_dict()):
            log.warning("the optimiser is another one than in the checkpoint, and begins anew")
            checkpoint["optimizer_states"] = []

    def on_train_start(self) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        scheduler: Any = self.lr_schedulers()
        obey(optimizer, scheduler, self.make_optimizer(self._parameter_groups()))
        self.embedder.thaw(self.current_epoch)  # a resumed epoch doesn't start
        self._warn_of_no_thaw()

    def _warn_of_no_thaw(self) -> None:
        thaw, epochs = self.embedder.freeze.thaw, self.trainer.max_epochs
        if thaw is not None and epochs is not None and 0 < epochs <= thaw.epoch:
            log.warning(
                "Nothing thaws: freeze.thaw.epoch=%d, and training ends after epoch %d.",
                thaw.epoch,
                epochs,
            )

    def on_train_epoch_start(self) -> None:
        self.embedder.thaw(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, a scalar; it is logged with the terms that the loss names."""
        own = embed_in_chunks(self.embedder, batch.images, self.chunk_size)
        # in float32: PML casts its proxies to the embeddings' type, for good
        with torch.autocast(self.device.type, enabled=False):
            embeddings, labels = self.scope.compared(
                own, batch.labels, self.current_epoch, batch_idx
            )
            indices = self.miner(embeddings, labels)
            with translate_errors(self.loss):
                loss = self.loss(embeddings, labels, indices)
        terms = dict(getattr(self.loss, "terms", {}))
        for name, penalty in self.penalties.items():
            terms[name] = penalty(self.embedder, batch.images, own)
            loss = loss + terms[name]
        named = {f"train/{name}": term.detach() for name, term in terms.items()}
        self.log_dict({"train/loss": loss} | named | self._rates(), batch_size=len(batch.labels))
        return loss

    def _rates(self) -> dict[str, Tensor]:
        """The learning rates of this step, by the name of what learns; of its last block.

        On the CPU: Lightning would copy a plain number to the device, and wait for it.
        """
        optimizer: Any = self.optimizers()
        return {
            f"learning_rate/{group['name']}": torch.tensor(group["lr"])
            for group in optimizer.param_groups
        }

    def on_validation_epoch_start(self) -> None:
        self._start_measuring(self.trainer.num_val_batches)

    def on_test_epoch_start(self) -> None:
        self._start_measuring(self.trainer.num_test_batches)

    def _start_measuring(self, batches: Sequence[int | float]) -> None:
        make_buffers_equal(self.embedder)
        copied = self.embedder.for_measuring()
        # its method, not the copy: a module would be saved as a part of this one
        self._measure = self.embedding.faster(copied, "features" if self.with_frozen else "forward")
        self._beside = partial(_with_frozen, copied.head.forward)
        if isinstance(self._measure, Racing):
            self._measure.expect(int(sum(batches)))

    def on_validation_epoch_end(self) -> None:
        del self._measure, self._beside  # frees the copy's memory

    on_test_epoch_end = on_validation_epoch_end

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embeddings (B, D) in float32 whatever the training computes in: bfloat16 costs recall.

        By what stands before the names of their scores, see `RetrievalEvaluation`.
        """
        with torch.autocast(self.device.type, enabled=False):
            if not self.with_frozen:
                return {"": self._measure(batch.images)}
            cached = batch.images.ndim == 2
            return self._beside(batch.images if cached else self._measure(batch.images))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        """The optimiser, and its schedule of all steps."""
        optimizer = self.make_optimizer(self._parameter_groups())
        scheduler = self.make_scheduler(optimizer, self._total_steps())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _parameter_groups(self) -> list[dict[str, Any]]:
        embedder = self.embedder
        if embedder.freeze.thawing(embedder.backbone) and self.trainer.world_size > 1:
            raise InputError(  # it synchronises the gradients that there are when training begins
                "freeze=thaw trains in one process: set trainer.devices=1, or freeze=below"
            )
        return parameter_groups(embedder, self.loss, self.learning_rate, self.decay_norms)

    def _total_steps(self) -> int:
        steps = int(self.trainer.estimated_stepping_batches)
        if self.planned_epochs is None or not self.trainer.max_epochs:
            return steps
        return round(steps * self.planned_epochs / self.trainer.max_epochs)


def _with_frozen(head: Callable[[Tensor], Tensor], features: Tensor) -> dict[str, Tensor]:
    """Features (B, width) of one pass -> the embeddings with a head, and those without."""
    return {"": normalize(head(features).float()), FROZEN: normalize(features.float())}
