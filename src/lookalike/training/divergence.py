"""Divergence: a training stops at the step whose loss or gradients are no numbers any more."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lookalike.data.datamodule import RetrievalData
from lookalike.distributed import gather, highest
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint

EXPLODED = 1e12  # norm of all gradients; float32 weights have nothing left after such a step
SKIPPED = 20  # steps in a row that gradient scaling may leave out, as each halves the scale
SHOWN = 3  # paths of images
GRADIENTS, LOSS = 1, 2  # what is wrong with a step, the worse the higher
NAMES = ("last", "final", "best", "start")  # of checkpoints from which a training can go on


class StopAtDivergence(Callback):
    """Ends a training by an error before a step that would spoil the weights.

    Loss and gradients of every step are looked at before the optimiser makes it. A GPU isn't waited
    for: its step is looked at while it works on the next one, and always before the weights are
    saved or measured, so that no checkpoint is spoilt. With scaled gradients (16-mixed) a step
    that overflows is left out by the scaler, and is an error only if that goes on.

    Put this callback before those that measure or save.

    Args:
        folder: of the run, or of its refit.
        data: whose images are named.
        overrides: of the command that began the run, for the advice.
    """

    def __init__(self, folder: Path, data: RetrievalData, overrides: Sequence[str]) -> None:
        self.folder = folder
        self.data = data
        self.overrides = [str(each) for each in overrides]
        self._seen: list[tuple[Tensor, Tensor]] = []  # ids and loss of batches since the last step
        self._pending: _Step | None = None
        self._skipped = 0  # steps in a row
        self._ids = torch.empty(0)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._ids = batch.ids

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        self._seen.append((self._ids, loss.detach()))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        self._check(trainer)
        at = (trainer.current_epoch, trainer.fit_loop.batch_idx)
        self._pending = _Step.begun(at, self._seen, _norm(optimizer, self._seen[0][1]))
        self._seen = []
        if not self._pending.is_on_its_way or trainer.world_size > 1:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_all(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check_all(trainer, pl_module)

    def _check_all(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        self._check(trainer)
        learned = [each.detach() for each in pl_module.parameters() if each.requires_grad]
        if learned and not isfinite(
            float(torch.stack([each.float().sum() for each in learned]).sum())
        ):
            where = f"epoch {trainer.current_epoch + 1}"
            self._stop(trainer, f"in {where}: a step has left weights that are not finite.", "")

    def _check(self, trainer: Trainer) -> None:
        """Look at the step that was begun, if any."""
        step, self._pending = self._pending, None
        if step is None:
            return
        loss, norm = step.values()
        of_loss = "" if isfinite(loss) else f"the loss is {loss:g}"
        wrong = of_loss or self._of_gradients(trainer, norm)
        device = trainer.strategy.root_device
        found = highest(LOSS if of_loss else GRADIENTS if wrong else 0, device)
        if not found:
            return
        if found == LOSS:  # the gradients are the mean over all processes
            wrong = of_loss or "the loss of another process is not finite"
        at_fault = step.ids() if found == GRADIENTS or of_loss else []
        ids = torch.cat(gather(torch.tensor(at_fault, dtype=torch.int64, device=device))).tolist()
        epoch, batch = step.at
        at = f"in epoch {epoch + 1}, batch {batch + 1}: {wrong}."
        self._stop(trainer, at, f" {self._named(ids)}")

    def _of_gradients(self, trainer: Trainer, norm: float) -> str:
        """What is wrong with gradients of that norm; empty if nothing is."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self._skipped = 0 if isfinite(norm) else self._skipped + 1
            often = f"the gradients have overflowed in {self._skipped} steps in a row"
            return often if self._skipped > SKIPPED else ""
        if isfinite(norm) and (norm < EXPLODED or trainer.gradient_clip_val is not None):
            return ""
        return f"the gradients have exploded (their norm is {norm:g})"

    def _named(self, ids: Sequence[int]) -> str:
        """The images of a batch."""
        paths = [str(self.data.records.paths[row]) for row in dict.fromkeys(ids)][:SHOWN]
        return (
            f"The record ids of its images (rows of split.csv): {', '.join(map(str, ids))}; the "
            f"first files: {', '.join(paths)}."
        )

    def _stop(self, trainer: Trainer, at: str, images: str) -> None:
        raise InputError(f"the training has diverged {at}{images} {self._advice(trainer)}")

    def _advice(self, trainer: Trainer) -> str:
        """The last checkpoint before it, and the command that goes on with smaller steps."""
        good = last_good(self.folder)
        smaller = ["trainer.gradient_clip_val=1", *_smaller_rates(trainer)]
        if good is None:
            command = ["lookalike", "train", *self.overrides, *smaller]
            return f"Nothing was saved yet. Start again with smaller steps: {shlex.join(command)}"
        command = ["lookalike", "train", f"resume={good.file}", *smaller]
        if self.folder.name == "refit":  # `resume=` is about a whole run
            command[2] = f"resume={self.folder.parent}"
        return (
            f"The last good checkpoint is {good.file}, after {good.epochs} epochs. Go on from it "
            f"with smaller steps: {shlex.join(command)}"
        )


@dataclass(frozen=True, eq=False)
class _Step:
    """What is known of a step before the optimiser makes it.

    at: epoch and batch, from 0.
    seen: ids and loss of its batches.
    found: the sum of its losses, and the norm of its gradients, on the CPU.
    arrived: the event on a GPU after which `found` is there; null where it is there.
    """

    at: tuple[int, int]
    seen: list[tuple[Tensor, Tensor]]
    found: Tensor
    arrived: Any

    @classmethod
    def begun(cls, at: tuple[int, int], seen: list[tuple[Tensor, Tensor]], norm: Tensor) -> "_Step":
        losses = [loss.float() for _, loss in seen]
        found = torch.stack([torch.stack(losses).sum(), norm.float()])
        if not found.is_cuda:
            return cls(at, seen, found, None)
        there = found.to("cpu", non_blocking=True)  # into pinned memory
        arrived = torch.cuda.Event()
        arrived.record()
        return cls(at, seen, there, arrived)

    @property
    def is_on_its_way(self) -> bool:
        return self.arrived is not None

    def values(self) -> tuple[float, float]:
        """The sum of the losses, and the norm of the gradients."""
        if self.arrived is not None:
            self.arrived.synchronize()
        loss, norm = self.found.tolist()
        return loss, norm

    def ids(self) -> list[int]:
        """The images of the first batch whose loss is not finite, or of all batches."""
        wrong = [ids for ids, loss in self.seen if not bool(loss.isfinite())][:1]
        return [row for ids in wrong or [ids for ids, _ in self.seen] for row in ids.tolist()]


def last_good(folder: Path) -> Checkpoint | None:
    """The checkpoint of a run from which a training can go on, and whose weights are all finite.

    Args:
        folder: of the run.
    """
    files = [folder / "checkpoints" / f"{name}.ckpt" for name in NAMES]
    there = [read_checkpoint(file) for file in files if file.is_file()]
    good = [each for each in there if each.resumable and _is_finite(each)]
    return max(good, key=lambda each: (each.epochs, each.batches), default=None)


def _is_finite(checkpoint: Checkpoint) -> bool:
    return all(bool(value.isfinite().all()) for value in checkpoint.state.values())


def _norm(optimizer: Optimizer, loss: Tensor) -> Tensor:
    """Of the gradients of all that an optimiser changes, a scalar on the device of a loss."""
    groups = [group["params"] for group in optimizer.param_groups]
    gradients = [each.grad for group in groups for each in group if each.grad is not None]
    return get_total_norm(gradients) if gradients else torch.zeros_like(loss)


def _smaller_rates(trainer: Trainer) -> list[str]:
    """Overrides by which what learns does so at a tenth of its rate."""
    rates: Any = getattr(trainer.lightning_module, "learning_rate", {})
    names = dict.fromkeys(group["name"] for group in trainer.optimizers[0].param_groups)
    return [f"learning_rate.{name}={rates[name] / 10:g}" for name in names if rates.get(name)]
