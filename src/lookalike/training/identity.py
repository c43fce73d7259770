"""What makes two runs the same: which keys of a configuration decide its result."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lookalike.device import best_precision
from lookalike.reports.saved import SavedRun

# groups and keys that say where a run lies, what it is called and what of it is shown, and which
# engine measures: they agree to rounding, and `train` offers float32 alone
WITHOUT_EFFECT = (
    "learner.embedding",  # before what it repeats
    "callbacks.progress", "checkpoint", "debug", "embedding", "hydra", "logger", "name", "paths",
    "report",
    "resume",
)  # fmt: skip
# groups and keys that say how training goes on, not from where it starts
OF_TRAINING = (
    "callbacks", "distance", "learner", "learning_rate", "loss", "miner", "optimizer", "reducer",
    "regularizer", "sampler", "scheduler", "data.batch_size", "data.miner", "data.sampler",
    "data.view_seed",
)  # fmt: skip
REPEATED = ("embedder", "learner")  # they only put together what other keys say
BEFORE_TRAINING = "before training"


def fingerprint(config: DictConfig, without: Sequence[str] = ()) -> str:
    """16 hexadecimal digits of all that decides a run's result, wherever its files lie.

    An automatic number format is the one that it stands for on this machine.

    Args:
        config: of `train`.
        without: further keys, dotted, that don't count.
    """
    neutral = config.copy()
    with open_dict(neutral):
        if OmegaConf.select(neutral, "trainer.precision") == "auto":
            neutral.trainer.precision = best_precision(neutral.trainer.accelerator)
        neutral.paths = {name: name for name in config.paths}  # other keys refer to them
        for key in (*WITHOUT_EFFECT, *without):
            parent, _, name = key.rpartition(".")
            node = OmegaConf.select(neutral, parent) if parent else neutral
            if node is not None and key != "paths":
                node.pop(name, None)
    content: Any = OmegaConf.to_container(neutral, resolve=True)
    del content["paths"]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def start_fingerprint(config: DictConfig) -> str:
    """The same of a starting point, which losses, miners and optimisers share."""
    return fingerprint(config, OF_TRAINING)


def compared(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """Runs with only those choices and keys that decide their results.

    A starting point has no loss and nothing else of training, whatever its configuration names.
    """
    return [_compared(run) for run in runs]


def _compared(run: SavedRun) -> SavedRun:
    def decisive(values: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in values.items() if not _is_of(key, WITHOUT_EFFECT)}
        if run.trained:
            return kept
        return {k: BEFORE_TRAINING if _is_of(k, OF_TRAINING) else v for k, v in kept.items()}

    choices = {group: choice for group, choice in run.choices.items() if group != "callbacks"}
    return replace(run, choices=decisive(choices), config=decisive(run.config))


def _is_of(key: str, parents: Sequence[str]) -> bool:
    """Whether a dotted key is one of the parents or lies below one."""
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)
