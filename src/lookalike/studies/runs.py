"""The runs of a benchmark: which there are, which are finished, and how one is done.

A run is known by the fingerprint of its resolved configuration, so that a benchmark that was
killed, or got more seeds or cells, does only what is missing. It is finished when its metrics.json
is there, which is written whole or not at all. While it runs it holds a lock, which the operating
system takes back however it ends.
"""

import json
import logging
import shlex
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from lookalike.config import build, check_arguments, words
from lookalike.errors import InputError
from lookalike.files import write_text
from lookalike.reports.saved import FINISHED
from lookalike.studies.cells import Benchmark
from lookalike.training.identity import BEFORE_TRAINING, fingerprint, start_fingerprint
from lookalike.training.resume import is_resumable
from lookalike.training.run import train

State = Literal["done", "running", "failed", "left"]
Compose = Callable[[list[str]], DictConfig]  # overrides of `train` -> its configuration

FAILED = "error.txt"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One cell with one fold and one seed.

    Args:
        label: of its row in the table.
        trained: whether it is more than a starting point that is measured.
        fold: of the classes that validate.
        seed: of everything that is drawn at random.
        overrides: of `lookalike train`.
        folder: in which it is done.
    """

    label: str
    trained: bool
    fold: int
    seed: int
    overrides: list[str]
    folder: Path

    def result(self) -> dict[str, Any] | None:
        """metrics.json, or nothing while the run is not finished."""
        try:
            return json.loads((self.folder / FINISHED).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def state(self) -> State:
        """How far it is, as its folder says now."""
        if self.result() is not None:
            return "done"
        if self.folder.is_dir() and _is_held(self.folder):
            return "running"
        return "failed" if (self.folder / FAILED).exists() else "left"


def planned_runs(
    benchmark: Benchmark, more: list[str], compose: Compose, folder: Path
) -> list[Run]:
    """Every run of a benchmark: seeds first, so that a table of all cells is early complete.

    Args:
        benchmark: its cells, folds and seeds.
        more: overrides of every cell beside the benchmark's own.
        compose: finds mistakes in overrides before any run starts.
        folder: has, or will have, a folder for each run.

    Raises:
        InputError: a cell can't be run on one device, takes no such argument, or does not measure
            the benchmark's metrics.
    """
    cells = _cells(benchmark, [*benchmark.every, *more], compose)
    return [
        _run(cell, fold, seed, folder)
        for seed in benchmark.seeds
        for fold in benchmark.folds
        for cell in cells
    ]


def run_cell(config: DictConfig) -> float:
    """`train`, where another process may want to do the same.

    What goes wrong is written to error.txt, and other runs go on. Returns the monitored validation
    metric, NaN for a run that failed, is finished already, or that another process is at.
    """
    folder = Path(config.paths.run)
    try:
        with _lock(folder).acquire(timeout=1):  # a look at the state holds it for an instant
            # another process may have finished it meanwhile
            return nan if (folder / FINISHED).exists() else _attempt(config, folder / FAILED)
    except Timeout:
        log.info("another process is at %s", folder)
        return nan


@dataclass(frozen=True)
class _Cell:
    """What runs of one row of the table have in common.

    Args:
        label: of the row.
        trained: whether it is more than a starting point.
        overrides: of `lookalike train`, without seed and fold.
        config: composed from them.
    """

    label: str
    trained: bool
    overrides: list[str]
    config: DictConfig


_Start = tuple[tuple[str, ...], _Cell]  # entries of the axes, and the cell without its training


def _attempt(config: DictConfig, problem: Path) -> float:
    """One run, which goes on if it was cut off; an exception is written to a file and logged."""
    failed = problem.exists()  # a checkpoint may be what it failed by
    problem.unlink(missing_ok=True)
    try:
        if is_resumable(problem.parent) and not failed:
            config.resume.path = str(problem.parent)
        return train(config)
    except Exception as error:
        write_text(problem, traceback.format_exc())
        log.error("failed: %s (%s)", error, problem)
        return nan


def _cells(benchmark: Benchmark, every: list[str], compose: Compose) -> list[_Cell]:
    """First the starting points, which losses and optimisers share, then the cells."""
    trained: list[_Cell] = []
    starts: dict[str, list[_Start]] = defaultdict(list)
    for entries in benchmark.cells():
        own = [override for entry in entries for override in shlex.split(entry)]
        overrides = [*every, *own, "evaluation.before_training=false"]
        cell = _Cell(" ".join(entries), True, overrides, compose(overrides))
        _check(cell.config, benchmark)
        trained.append(cell)
        start = _start_of(cell)
        starts[start_fingerprint(start.config)].append((entries, start))
    return [*_shared(list(starts.values())), *trained]


def _start_of(cell: _Cell) -> _Cell:
    """The cell without any training."""
    config = cell.config.copy()
    config.trainer.max_epochs = 0
    return _Cell(cell.label, False, [*cell.overrides, "trainer.max_epochs=0"], config)


def _shared(starts: Sequence[Sequence[_Start]]) -> Iterator[_Cell]:
    """One cell for those with the same start, named by the entries that all of them have."""
    for sharing in starts:
        first, cell = sharing[0]
        common = [entry for entry in first if all(entry in entries for entries, _ in sharing)]
        named = [*common, BEFORE_TRAINING] if len(starts) > 1 else [BEFORE_TRAINING]
        yield replace(cell, label=" ".join(named))


def _check(config: DictConfig, benchmark: Benchmark) -> None:
    """Find what would fail, or would not be measured, before anything runs."""
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
    """A run of a cell; its folder is found again by the fingerprint."""
    config = cell.config.copy()
    config.data.fold, config.seed = fold, seed
    mark = fingerprint(config) if cell.trained else start_fingerprint(config)
    found = next(folder.glob(f"*_{mark}"), None)  # the label may have changed since
    return Run(
        label=cell.label,
        trained=cell.trained,
        fold=fold,
        seed=seed,
        overrides=[*_on_wandb(cell, folder.parent.name), *cell.overrides, f"data.fold={fold}",
                   f"seed={seed}"],
        folder=found or folder / f"{words(cell.label)}_fold{fold}_seed{seed}_{mark}",
    )  # fmt: skip


def _on_wandb(cell: _Cell, name: str) -> list[str]:
    """The benchmark is the group of its runs, and the cell their job type."""
    if "wandb" not in cell.config.logger:
        return []
    label = cell.label.replace("'", r"\'")
    return [f"logger.wandb.group='{name}'", f"logger.wandb.job_type='{label}'"]


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / ".lock")


def _is_held(folder: Path) -> bool:
    """Whether another process is at the run."""
    try:
        with _lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
