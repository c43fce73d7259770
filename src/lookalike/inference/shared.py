"""The folder of a shared network: weights as safetensors, all else as JSON, and a card.

No file of it runs code, and `inference.trust` decides which parts its JSON may name.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as packed
from torch import Tensor

from lookalike.errors import InputError
from lookalike.files import write_text, writing
from lookalike.inference.places import here

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)
NEEDED = {
    "format": int, "config": dict, "scores": dict, "epochs": int, "class_names": list,
}  # fmt: skip
OF_CONFIG = ("name", "embedder", "loss", "data")  # what is used of a run's configuration


def write_folder(
    folder: Path, ours: Mapping[str, Any], state: Mapping[str, Tensor], card: str
) -> None:
    """Write the three files; the JSON, without which the folder is none, comes last.

    Args:
        folder: made if it is missing.
        ours: what a checkpoint holds beside its weights, see `read_folder`.
        state: the weights by name.
        card: Markdown.

    Raises:
        InputError: the folder holds a network already, or can't be written.
    """
    if (folder / CONFIG).exists():
        raise InputError(f"{folder} holds a network already, which is kept. Give another folder.")
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with writing(folder / WEIGHTS, "wb") as stream:
        stream.write(packed(weights, {"format": "pt"}))
    write_text(folder / CARD, card)
    content = {"library_name": "lookalike", "lookalike": {**ours, "scores": _finite(ours)}}
    write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")


def read_folder(folder: Path) -> dict[str, Any]:
    """What a shared folder holds, in the form of a checkpoint's content.

    Raises:
        InputError: a file is missing, damaged or of another program.
    """
    content = _json(folder / CONFIG)
    ours = content.get("lookalike")
    if not isinstance(ours, dict) or not isinstance(ours.get("format"), int):
        raise InputError(
            f"{folder / CONFIG} was not written by lookalike. Give a folder of save_pretrained or "
            "`lookalike share`; weights of another program start a training: backbone.weights=..."
        )
    return {**content, "state_dict": _weights(folder / WEIGHTS)}


def check_complete(folder: Path, ours: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON says, with the places of its data on this machine.

    Raises:
        InputError: something is missing in it.
    """
    wrong = [key for key, kind in NEEDED.items() if not isinstance(ours.get(key), kind)]
    config = ours.get("config") if not wrong else {}
    wrong += [f"config.{key}" for key in OF_CONFIG if not wrong and key not in (config or {})]
    if wrong:
        raise InputError(
            f"{folder / CONFIG} is damaged: it lacks {', '.join(wrong)}. Fetch or share it again."
        )
    return {**ours, "config": {**ours["config"], "data": here(ours["config"]["data"])}}


def _finite(ours: Mapping[str, Any]) -> dict[str, float]:
    """JSON has neither NaN nor infinity."""
    return {name: value for name, value in ours["scores"].items() if math.isfinite(value)}


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(
            f"no {file.name} in {file.parent}, so it is no shared network. Give a folder of "
            "save_pretrained or `lookalike share`, or RUN/checkpoints/best.ckpt."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no JSON ({error}). Fetch or share it again.") from error
    return content if isinstance(content, dict) else {}


def _weights(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(f"no {file.name} in {file.parent}. Fetch or share it again.")
    try:
        return load(file.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{file} is damaged ({error}). Fetch or share it again.") from error
