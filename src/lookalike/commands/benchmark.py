"""lookalike benchmark: cells x folds x seeds of `train`, resumable, and the table of them."""

from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lookalike.command_line import command
from lookalike.commands.verb import run_verb
from lookalike.compatibility import launch
from lookalike.config import build, subject
from lookalike.interruption import Interrupted
from lookalike.studies.benchmark import summary, write_results
from lookalike.studies.cells import Benchmark
from lookalike.studies.runs import Run, State, planned_runs, run_cell


def benchmark(config: DictConfig) -> int:
    """Do what is left, then write and print the table; returns how many runs are finished."""
    spec: Benchmark = build(config.benchmark)
    folder = Path(config.paths.run)
    given = HydraConfig.get().overrides
    more = [*(each for each in given.task if subject(each) == "paths"), *config.more]

    def compose(overrides: list[str]) -> DictConfig:
        return hydra.compose("train", [*given.hydra, *overrides])

    runs = planned_runs(spec, more, compose, folder / "cells")
    states: list[State] = [run.state() for run in runs]
    print(summary(runs, states))
    if not config.status:
        left = [run for run, state in zip(runs, states, strict=True) if state in ("left", "failed")]
        try:
            if left:
                _launch(left, list(given.hydra), folder / "cells")
        except Interrupted as stop:
            done = sum(run.result() is not None for run in runs)
            command = _command(config.more)
            stop.advice = f"{done} of {len(runs)} runs are done. Go on: {command}"
            raise
        write_results(spec, runs, folder, _command(config.more))
    return sum(run.result() is not None for run in runs)


def _launch(runs: Sequence[Run], given: list[str], folder: Path) -> None:
    """By the launcher that was chosen, each run in its own folder."""
    place = f"hydra.sweep.dir='{folder}'"
    master = hydra.compose("train", [*given, place], return_hydra_config=True)
    jobs = [[*run.overrides, f"hydra.sweep.subdir='{run.folder.name}'"] for run in runs]
    launch(run_cell, master, jobs)


def _command(more: Sequence[str]) -> str:
    """As a user would write it."""
    given, sources = HydraConfig.get().overrides, HydraConfig.get().runtime.config_sources
    added = "hydra.mode="  # by Hydra itself
    written = [each for each in given.hydra if not each.startswith(added)]
    own = [each for each in [*given.task, *written] if subject(each) != "more"]
    own += [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"]
    return command("benchmark", *own, *more)


if __name__ == "__main__":
    run_verb("benchmark", benchmark)
