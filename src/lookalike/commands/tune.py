"""lookalike tune: hyper-parameters chosen by validation, and a benchmark to test them with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lookalike.command_line import command
from lookalike.commands.verb import again, run_verb
from lookalike.config import build, subject
from lookalike.errors import InputError
from lookalike.files import write_text
from lookalike.interruption import Interrupted
from lookalike.studies.space import Tuning, overrides_of
from lookalike.studies.trials import print_trials, write_trials
from lookalike.studies.tuning import Compose, ranked, tuned


def tune(config: DictConfig) -> float:
    """Do the trials that are left; returns the best mean validation score."""
    tuning: Tuning = build(config.tune)
    folder = Path(config.paths.run)
    folder.mkdir(parents=True, exist_ok=True)
    given = HydraConfig.get().overrides
    paths = [each for each in given.task if subject(each) == "paths"]
    every = [*given.hydra, *paths, *tuning.every, *config.more]
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            study = tuned(tuning, composer(every), folder)
    except Interrupted as stop:
        stop.advice = f"{stop.advice} Go on: {again('tune')}".lstrip()
        raise
    except Timeout:
        raise InputError(
            f"another process is searching in {folder}; name=<another> searches beside it"
        ) from None
    write_trials(folder / "trials.csv", study)
    best = ranked(study)
    if not best:
        raise InputError(f"no trial was finished; what went wrong is in {folder}/trials.csv")
    print_trials(study)
    chosen = folder / "benchmark" / f"{config.name}_tuned.yaml"
    write_benchmark(chosen, tuning, list(config.more), study.trials[0].params, best[0].params)
    print(folder / "trials.csv")
    print(command("benchmark", "--config-dir", str(folder), f"benchmark={chosen.stem}"))
    assert best[0].value is not None
    return best[0].value


def composer(every: Sequence[str]) -> Compose:
    """Configurations of `train` with these overrides before those that are asked for."""

    def compose(overrides: Sequence[str]) -> DictConfig:
        return hydra.compose("train", [*every, *overrides])

    return compose


def write_benchmark(
    file: Path, tuning: Tuning, more: list[str], default: dict[str, Any], best: dict[str, Any]
) -> None:
    """A benchmark that trains the default and the best anew, with fresh seeds, and tests them."""
    lines = list(dict.fromkeys(" ".join(overrides_of(each)) for each in (default, best)))
    content = {
        "_target_": "lookalike.studies.cells.Benchmark",
        "every": [*tuning.every, *more],
        "axes": [lines],
        "folds": list(tuning.folds),
        "seeds": list(tuning.reproductions),
        "metrics": ["map_at_r", "recall_at_1"],
        "reference": lines[0],
    }
    write_text(file, OmegaConf.to_yaml(OmegaConf.create(content)))


if __name__ == "__main__":
    run_verb("tune", tune)
