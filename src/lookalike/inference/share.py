"""Hand a trained network on: as a folder, or as a repository of the Hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lookalike.errors import InputError
from lookalike.hub import upload
from lookalike.inference.card import Run, card
from lookalike.inference.checkpoint import CHECKSUM, FORMAT, Checkpoint
from lookalike.inference.places import portable, without_folders
from lookalike.inference.shared import CARD, write_folder
from lookalike.models.lora import merged_state
from lookalike.provenance import weights_fingerprint

METRICS = "metrics.json"


def share_as_folder(
    checkpoint: Checkpoint,
    folder: str | Path,
    licence: str | None = None,
    repetitions: Sequence[Run] = (),
    place: str | None = None,
) -> Path:
    """Write a folder from which any lookalike loads the network; returns it.

    Args:
        checkpoint: of a run, or of a shared network, whose card is then kept.
        folder: made if it is missing.
        licence: of the weights, as the Hub writes it, such as "mit"; null leaves it open.
        repetitions: the same run with other seeds and folds, for the card's intervals.
        place: where readers of the card load it from; null for the folder's name.

    Raises:
        InputError: the folder holds a network already, or can't be written.
    """
    folder = Path(folder)
    state = merged_state(checkpoint.state)
    ours = {
        "format": FORMAT,
        "config": _portable_config(checkpoint.config),
        "scores": checkpoint.scores,
        "epochs": checkpoint.epochs,
        "class_names": list(checkpoint.class_names),
        CHECKSUM: weights_fingerprint(state),
    }
    kept = checkpoint.file / CARD
    if checkpoint.file.is_dir() and kept.is_file():
        text = kept.read_text(encoding="utf-8")
    else:
        run = Run(ours["config"], metrics_of(checkpoint), _command(checkpoint.config))
        text = card(checkpoint, run, place or folder.resolve().name, licence, repetitions)
    write_folder(folder, ours, state, text)
    return folder


def share_on_hub(
    checkpoint: Checkpoint,
    repository: str,
    licence: str | None = None,
    repetitions: Sequence[Run] = (),
    private: bool = True,
) -> str:
    """Upload a network to the Hub as one commit; returns the repository's address.

    Args:
        checkpoint: of a run, or of a shared network.
        repository: such as "user/network"; it is made if it is not there.
        licence: of the weights, such as "mit"; null leaves it open.
        repetitions: the same run with other seeds and folds.
        private: whether a new repository is.

    Raises:
        InputError: the Hub can't be reached, or does not let the user write.
    """
    with TemporaryDirectory() as place:
        folder = share_as_folder(checkpoint, place, licence, repetitions, repository)
        return upload(folder, repository, private, "Share a network trained with lookalike")


def metrics_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """metrics.json of the run that chose the checkpoint; empty where there is none.

    A run's other checkpoints are not those that were tested.
    """
    file = checkpoint.file.absolute().parents[1] / METRICS
    if not file.is_file():
        return {}
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no JSON ({error}). Remove it, or repeat the run.") from error
    tested = Path(str(metrics.get("checkpoint", ""))).name == checkpoint.file.name
    return metrics if tested else {}


def _portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """What using the network needs; no paths of this machine, names of users or loggers."""
    data = {key: value for key, value in config["data"].items() if key not in ("sampler", "miner")}
    paths = config.get("paths") or {"data": "data", "cache": "cache"}  # of a shared one: none
    used = {key: config[key] for key in ("name", "seed", "embedder", "loss") if key in config}
    used["embedder"] = {k: v for k, v in used["embedder"].items() if k != "lora"}  # in the weights
    return {**without_folders(used), "data": portable(data, paths)}


def _command(config: dict[str, Any]) -> list[str]:
    """The overrides by which the run was started, without the folders of this machine."""
    overrides = (config.get("resume") or {}).get("overrides") or []
    return [_without_folder(str(each)) for each in overrides]


def _without_folder(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key}={Path(value).name}" if value.startswith(("/", "~")) else override
