"""Where a training goes on: which checkpoint, in which folder, and what may have changed."""

import csv
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from lookalike.config import build
from lookalike.errors import InputError
from lookalike.files import writing
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.reports.saved import FINISHED
from lookalike.training.identity import OF_RESUMING, differences, resume_fingerprint, without_effect

LAST = "last"
OTHER_VERBS = ("benchmark", "tune")  # their folders among all outputs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resumed:
    """A training that goes on.

    checkpoint: after which it goes on.
    run: the folder of the run that saved it; null where it lies in none.
    """

    checkpoint: Checkpoint
    run: Path | None

    @property
    def is_newest(self) -> bool:
        """Whether the run has saved nothing later."""
        return self.run is not None and newest(self.run) == self.checkpoint.file.absolute()

    @property
    def is_finished(self) -> bool:
        """Whether its run has been tested."""
        return self.run is not None and (self.run / FINISHED).is_file()

    def folder(self) -> Path | None:
        """Where it goes on: in the folder of an unfinished run, after its newest checkpoint.

        What is finished or was trained further is kept, and null stands for a new folder.
        """
        return self.run if self.is_newest and not self.is_finished else None


def find(where: str, outputs: Path, longer: bool = False) -> Resumed:
    """The training that `resume=` means.

    Args:
        where: a checkpoint, the folder of a run, or "last".
        outputs: in which "last" is looked for.
        longer: whether the last run may be a finished one, because it will be trained longer.

    Raises:
        InputError: there is nothing to resume.
    """
    place = _last(outputs, longer) if where == LAST else Path(where)
    refit = next((each for each in (place, *place.parents) if each.name == "refit"), None)
    place = refit.parent if refit else place  # its first fit knows the epochs
    file = newest(place) if place.is_dir() else place
    if file is None:
        raise InputError(
            f"{place} has no checkpoints/last.ckpt: nothing was saved before it was cut off, or it "
            "is no run of `lookalike train`. Start it again without resume=."
        )
    return Resumed(read_checkpoint(file), _run_of(file))


def newest(run: Path) -> Path | None:
    """The checkpoint with which the training of a run, or its only fit, goes on."""
    kept = [run / "checkpoints" / name for name in ("last.ckpt", "final.ckpt", "start.ckpt")]
    there = [file for file in kept if file.is_file()]
    return max(there, key=_position) if len(there) > 1 else next(iter(there), None)


def is_resumable(run: Path) -> bool:
    """Whether a run was cut off after it had saved something."""
    return (run / "checkpoints" / "last.ckpt").is_file() and not (run / FINISHED).is_file()


def score_of_same(config: DictConfig, run: Path) -> float | None:
    """The monitored score of a run that is finished and has the same configuration, or null."""
    best = run / "checkpoints" / "best.ckpt"
    if not (run / FINISHED).is_file() or not best.is_file():
        return None
    if read_checkpoint(best).config["resume"]["fingerprint"] != resume_fingerprint(config):
        return None
    scores = json.loads((run / FINISHED).read_text(encoding="utf-8"))
    return scores[build(config.evaluation).monitored]


def check_resumed(config: DictConfig, resumed: Resumed) -> None:
    """Nothing that decides the result may differ, unless the user says so, and work must be left.

    Raises:
        InputError: it does; the checkpoint can't be resumed; the run is finished.
    """
    saved = resumed.checkpoint.config
    _check_state(resumed.checkpoint)
    changed = _changed(config, saved)
    if changed and not config.resume.change:
        lines = "\n".join(f"  {key}: {there} -> {here}" for key, (here, there) in changed.items())
        raise InputError(
            f"a resumed run goes on with what it trains, and this would change it:\n{lines}\n"
            "Leave that out, or add resume.change=true. The learning rate, its schedule and "
            "trainer.max_epochs may change."
        )
    for key, (here, there) in changed.items():
        log.warning("changed while resuming: %s=%s, before %s", key, here, there)
    _check_left(config, resumed)


def mark(config: DictConfig) -> None:
    """Let the checkpoints of a run know its configuration as it was composed."""
    with open_dict(config):
        config.resume.fingerprint = resume_fingerprint(config)


@rank_zero_only
def carry_over(resumed: Resumed, folder: Path) -> None:
    """Begin a new folder with the best checkpoint of what goes on there."""
    if resumed.run is None:
        return
    best, own = resumed.run / "checkpoints" / "best.ckpt", folder / "checkpoints" / "best.ckpt"
    if folder.resolve() == resumed.run.resolve() or not best.is_file():
        return
    if _position(best) <= _position(resumed.checkpoint.file):
        with best.open("rb") as stream, writing(own, "wb") as copy:
            shutil.copyfileobj(stream, copy)


def earlier_rows(resumed: Resumed) -> list[dict[str, str]]:
    """The lines of metrics.csv that were logged before the checkpoint, in training."""
    file = resumed.run / "metrics.csv" if resumed.run else Path()
    if not file.is_file():
        return []
    steps = _content(resumed.checkpoint.file)["global_step"]
    with file.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if _is_of_training(row, steps)]


def _is_of_training(row: dict[str, str], steps: int) -> bool:
    names = [name for name, value in row.items() if value and name.startswith(("train/", "val/"))]
    return int(row["step"]) < steps and bool(names)


def _changed(config: DictConfig, saved: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    if resume_fingerprint(config) == saved.get("resume", {}).get("fingerprint"):
        return {}
    return differences(config, saved, (*OF_RESUMING, *without_effect(config)))


def _check_state(checkpoint: Checkpoint) -> None:
    if not checkpoint.resumable:
        raise InputError(
            f"{checkpoint.file} has no states of an optimiser, so no training can go on from it. "
            "Give resume=RUN/checkpoints/last.ckpt, or train with checkpoint.optimizer=last "
            "or both."
        )


def _check_left(config: DictConfig, resumed: Resumed) -> None:
    """A finished run can only be trained longer."""
    done, saved = resumed.checkpoint.epochs, resumed.checkpoint.config
    if not resumed.is_finished:
        return
    if config.trainer.max_epochs <= done:
        raise InputError(
            f"{resumed.run} is finished: {done} epochs are trained, and trainer.max_epochs="
            f"{config.trainer.max_epochs}. To train it longer, raise trainer.max_epochs."
        )
    stopped = resumed.is_newest and 0 < done < saved["trainer"]["max_epochs"]
    if stopped and _patience(config) == _patience(OmegaConf.create(saved)):
        raise InputError(
            f"{resumed.run} is finished: it was stopped early, after {done} epochs. To train it "
            "longer, raise callbacks.early_stopping.patience, or set callbacks=progress."
        )


def _patience(config: Any) -> Any:
    return OmegaConf.select(config, "callbacks.early_stopping.patience")


def _last(outputs: Path, longer: bool) -> Path:
    """The newest run below a folder: one that was cut off, or one that can be trained longer."""
    found = sorted(_runs(outputs), key=lambda run: -_time(run))
    fitting = [run for run in found if longer or is_resumable(run)] or found
    if not fitting:
        raise InputError(f"no run to resume in or below {outputs}. Give resume=RUN.")
    return fitting[0]


def _runs(outputs: Path) -> Sequence[Path]:
    kept = outputs.glob("**/checkpoints/last.ckpt")
    return [
        file.parents[1]
        for file in kept
        if file.relative_to(outputs).parts[0] not in OTHER_VERBS and file.parents[1].name != "refit"
    ]


def _time(run: Path) -> float:
    return (run / "checkpoints" / "last.ckpt").stat().st_mtime


def _run_of(file: Path) -> Path | None:
    """The folder of a run with this checkpoint in its place."""
    return file.absolute().parents[1] if file.parent.name == "checkpoints" else None


def _position(file: Path) -> tuple[int, int]:
    """Epochs trained, and batches of the next."""
    checkpoint = read_checkpoint(file)
    return checkpoint.epochs, checkpoint.batches


def _content(file: Path) -> dict[str, Any]:
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def check_fits(
    checkpoint: Checkpoint, class_names: Sequence[str], own: Mapping[str, Tensor]
) -> None:
    """The training classes and the sizes of the network are those of a checkpoint.

    Args:
        checkpoint: that a training goes on with.
        class_names: of the classes that train now.
        own: the state of the network that trains now.

    Raises:
        InputError: they are others.
    """
    if set(checkpoint.class_names) != set(class_names):
        raise InputError(
            f"{checkpoint.file} was trained on other classes than the data have for training "
            "now. Resume it with its own data, split and fold."
        )
    for name, value in checkpoint.state.items():
        shape = tuple(own[name].shape) if name in own else "not there"
        if shape != tuple(value.shape):
            raise InputError(
                f"{checkpoint.file} does not fit this network: {name} is "
                f"{tuple(value.shape)} in the checkpoint, and {shape} here."
            )
