"""What makes two runs the same: which keys of a configuration decide its result."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lookalike.device import best_precision
from lookalike.inference.places import PATHS
from lookalike.reports.saved import SavedRun

# groups and keys that say where a run lies, what it is called and what of it is shown, and which
# engine measures: they agree to rounding, and `train` offers float32 alone
WITHOUT_EFFECT = (
    "learner.embedding",  # before what it repeats
    "callbacks.progress", "checkpoint", "debug", "embedding", "evaluation.engine", "hydra",
    "logger", "name", "paths", "report", "resume", "trust",
)  # fmt: skip
# what may differ when a run is resumed: how long and how fast it trains, and on what machine
OF_RESUMING = (
    *WITHOUT_EFFECT, "callbacks", "checkpoint_gradients", "ensemble", "learning_rate", "scheduler",
    "threads", "warmup",
    "data.cache_folder", "data.num_workers", "evaluation.before_training",
    "learner.planned_epochs", "trainer.accelerator", "trainer.enable_model_summary",
    "trainer.gradient_clip_val", "trainer.log_every_n_steps", "trainer.max_epochs",
    "trainer.max_steps",
)  # fmt: skip
# groups and keys that say how training goes on, not from where it starts
OF_TRAINING = (
    "averaging", "callbacks", "chunk_size", "decay_norms", "distance", "ensemble", "learner",
    "learning_rate", "loss", "loss_scope", "miner", "optimizer", "penalty", "reducer",
    "regularizer", "sampler", "scheduler", "data.batch_size", "data.miner", "data.sampler",
    "data.view_seed",
)  # fmt: skip
OF_PROCESSES = ("loss_scope",)  # what decides a result only where several processes train
REPEATED = ("embedder", "learner")  # they only put together what other keys say
BEFORE_TRAINING = "before training"
ABSENT = "(not set)"


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
        for key in without_effect(config):
            if key != "paths":
                _drop(neutral, key)
    content: Any = OmegaConf.to_container(neutral, resolve=True)
    for key in ("paths", *without):  # now that nothing refers to them
        _drop(content, key)
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def without_effect(config: DictConfig) -> tuple[str, ...]:
    """The keys, dotted, that don't change the result of a run on as many devices.

    Args:
        config: of `train`.
    """
    trainer = config.trainer
    return _without_effect(trainer.get("devices"), trainer.get("num_nodes", 1))


def _without_effect(devices: Any, nodes: Any) -> tuple[str, ...]:
    alone = devices == 1 and nodes == 1
    return (*WITHOUT_EFFECT, *OF_PROCESSES) if alone else WITHOUT_EFFECT


def _drop(config: Any, key: str) -> None:
    """Remove a dotted key, if it is there."""
    *above, name = key.split(".")
    for part in above:
        config = config.get(part) or {}
    config.pop(name, None)


def resume_fingerprint(config: DictConfig) -> str:
    """The same of what may not differ when a run is resumed."""
    return fingerprint(config, (*OF_RESUMING, *REPEATED))


def start_fingerprint(config: DictConfig) -> str:
    """The same of a starting point, which losses, miners and optimisers share."""
    return fingerprint(config, OF_TRAINING)


def differences(
    config: DictConfig, saved: dict[str, Any], without: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """What is set otherwise than in a saved run: key -> (here, there), or `ABSENT` for a value.

    Keys that only refer to others are left out.

    Args:
        config: of `train`, not yet resolved.
        saved: the resolved configuration in a checkpoint.
        without: keys, dotted, that don't count.
    """
    own = dict(_leaves(OmegaConf.to_container(config)))
    there = dict(_leaves(saved))
    pairs = {key: (own.get(key, ABSENT), there.get(key, ABSENT)) for key in {**own, **there}}
    return {
        key: (one, other)
        for key, (one, other) in pairs.items()
        if one != other
        and (one, other) != (None, ABSENT)  # a key that came later, and changes nothing
        and not _is_of(key, without)
        and not _refers(key, own)
        and not _is_same_place(key, one, other)
    }


def _is_same_place(key: str, here: Any, there: Any) -> bool:
    """Whether two values are one path; a checkpoint has those of its data absolute."""
    named = key.startswith("data.") and key.rpartition(".")[2] in PATHS
    texts = isinstance(here, str) and isinstance(there, str)
    return named and texts and os.path.abspath(here) == os.path.abspath(there)


def _leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no dict with its dotted key; a list is one value."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _refers(key: str, leaves: Mapping[str, Any]) -> bool:
    """Whether a key, or one above it, only repeats what others say."""
    parts = key.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any("${" in str(leaves.get(each, "")) for each in above)


def compared(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """Runs with only those choices and keys that decide their results.

    A starting point has no loss and nothing else of training, whatever its configuration names.
    """
    return [_compared(run) for run in runs]


def _compared(run: SavedRun) -> SavedRun:
    config = run.config
    without = _without_effect(config.get("trainer.devices"), config.get("trainer.num_nodes", 1))

    def decisive(values: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in values.items() if not _is_of(key, without)}
        if run.trained:
            return kept
        return {k: BEFORE_TRAINING if _is_of(k, OF_TRAINING) else v for k, v in kept.items()}

    choices = {group: choice for group, choice in run.choices.items() if group != "callbacks"}
    return replace(run, choices=decisive(choices), config=decisive(run.config))


def _is_of(key: str, parents: Sequence[str]) -> bool:
    """Whether a dotted key is one of the parents or lies below one."""
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)
