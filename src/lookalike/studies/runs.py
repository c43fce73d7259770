"""The runs of a benchmark: which there are, which are finished, and how one is done.

A run is known by the fingerprint of its resolved configuration, so that a benchmark that was
killed, or got more seeds or cells, does only what is missing. It is finished when its metrics.json
is there, which is written whole or not at all. While it runs it holds a lock, which the operating
system takes back however it ends.
"""

import json
import logging
import re
import shlex
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from lookalike.config import build, check_arguments
from lookalike.errors import InputError
from lookalike.studies.cells import Benchmark
from lookalike.training.identity import BEFORE_TRAINING, fingerprint, start_fingerprint
from lookalike.training.run import measure_start, train

State = Literal["done", "running", "failed", "left"]
Compose = Callable[[list[str]], DictConfig]  # overrides of `train` -> its configuration

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One cell with one fold and one seed, and the folder in which it is done."""

    label: str  # of its row in the table
    trained: bool
    fold: int
    seed: int
    overrides: list[str]
    folder: Path

    def result(self) -> dict[str, Any] | None:
        """metrics.json, or nothing while the run is not finished."""
        try:
            return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def state(self) -> State:
        if self.result() is not None:
            return "done"
        if self.folder.is_dir() and _is_held(self.folder):
            return "running"
        return "failed" if (self.folder / "error.txt").exists() else "left"


def planned_runs(
    benchmark: Benchmark, more: list[str], compose: Compose, folder: Path
) -> list[Run]:
    """Every run of a benchmark: seeds first, so that a table of all cells is early complete.

    Args:
        more: overrides of every cell beside the benchmark's own.
        compose: finds mistakes in overrides before any run starts.
        folder: has, or will have, a folder for each run.
    """
    cells = list(_cells(benchmark, [*benchmark.every, *more], compose))
    return [
        _run(cell, fold, seed, folder)
        for seed in benchmark.seeds
        for fold in benchmark.folds
        for cell in cells
    ]


def run_cell(config: DictConfig) -> float:
    """`train`, or the measurement of the starting point if trainer.max_epochs is 0.

    What goes wrong is written to error.txt, and other runs go on. Returns the monitored validation
    metric, NaN for a run that failed or that another process is at.
    """
    folder = Path(config.paths.run)
    problem = folder / "error.txt"
    try:
        with _lock(folder).acquire(timeout=1):  # a look at the state holds it for an instant
            if (folder / "metrics.json").exists():  # finished by another process meanwhile
                return nan
            problem.unlink(missing_ok=True)
            try:
                return train(config) if config.trainer.max_epochs else measure_start(config)
            except Exception as error:
                problem.write_text(traceback.format_exc(), encoding="utf-8")
                log.error("failed: %s (%s)", error, problem)
                return nan
    except Timeout:
        log.info("another process is at %s", folder)
        return nan


@dataclass(frozen=True)
class _Cell:
    label: str
    trained: bool
    overrides: list[str]
    config: DictConfig


def _cells(benchmark: Benchmark, every: list[str], compose: Compose) -> Iterator[_Cell]:
    """First the starting points, which losses and optimisers share, then the cells."""
    trained, starts = [], {}
    for entries in benchmark.cells():
        own = [override for entry in entries for override in shlex.split(entry)]
        overrides = [*every, *own, "evaluation.before_training=false"]
        config = compose(overrides)
        _check(config, benchmark)
        trained.append(_Cell(" ".join(entries), True, overrides, config))
        start = config.copy()
        start.trainer.max_epochs = 0
        sharing = starts.setdefault(start_fingerprint(start), [])
        sharing.append((entries, [*overrides, "trainer.max_epochs=0"], start))
    for sharing in starts.values():
        common = [entry for entry in sharing[0][0] if all(entry in each[0] for each in sharing)]
        label = " ".join([*common, BEFORE_TRAINING] if len(starts) > 1 else [BEFORE_TRAINING])
        yield _Cell(label, False, *sharing[0][1:])
    yield from trained


def _check(config: DictConfig, benchmark: Benchmark) -> None:
    check_arguments(config)
    devices = config.trainer.devices
    if devices not in (1, "1"):
        raise InputError(
            f"trainer.devices={devices}: a cell runs on one device. Set trainer.devices=1 and let "
            "a launcher run several cells at once (hydra/launcher=joblib)."
        )
    measured = list(build(config.evaluation).directions())
    missing = [name for name in benchmark.metrics if name not in measured]
    if missing:
        raise InputError(
            f"the benchmark's metrics {', '.join(missing)} are not measured; there are "
            f"{', '.join(measured)}. Set evaluation.k or benchmark.metrics."
        )


def _run(cell: _Cell, fold: int, seed: int, folder: Path) -> Run:
    config = cell.config.copy()
    config.data.fold, config.seed = fold, seed
    mark = fingerprint(config) if cell.trained else start_fingerprint(config)
    found = next(folder.glob(f"*_{mark}"), None)  # the label may have changed since
    told = _on_wandb(cell, folder.parent.name)
    words = re.sub(r"[^\w.]+", "-", cell.label)[-80:]  # "=" would have to be quoted in overrides
    return Run(
        cell.label,
        cell.trained,
        fold,
        seed,
        [*told, *cell.overrides, f"data.fold={fold}", f"seed={seed}"],
        found or folder / f"{words}_fold{fold}_seed{seed}_{mark}",
    )


def _on_wandb(cell: _Cell, name: str) -> list[str]:
    """The benchmark is the group of its runs, and the cell their job type."""
    if "wandb" not in cell.config.logger:
        return []
    label = cell.label.replace("'", r"\'")
    return [f"logger.wandb.group='{name}'", f"logger.wandb.job_type='{label}'"]


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / ".lock")


def _is_held(folder: Path) -> bool:
    try:
        with _lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
