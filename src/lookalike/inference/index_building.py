"""Building an index: images are embedded, kept in parts, and become the first generation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookalike.errors import InputError
from lookalike.inference.checkpoint import (
    KEY,
    Checkpoint,
    read_checkpoint,
    weights_alone,
    write_content,
)
from lookalike.inference.embedding_items import Reading, embed_items, tell_problems
from lookalike.inference.item_columns import completed, with_ids
from lookalike.inference.items import (
    common_folder,
    keys_of_items,
    listed_items,
    relative_paths,
)
from lookalike.inference.parts import Parts
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.generation import FILE
from lookalike.retrieval.writing import begin, held

NETWORK = "network.ckpt"  # in the folder
PARTS = "parts"  # folder of what is embedded and not yet in the index
CONTENT = (KEY, "state_dict", "pytorch-lightning_version")  # of a network's file


def build(
    folder: Path,
    places: Sequence[str],
    network: str | Path | Mapping[str, Any],
    device: torch.device,
    trust: Sequence[str],
    engine: EmbeddingEngine,
    reading: Reading,
    wait: float = 10.0,
) -> None:
    """Write a new index; see `Index.build`."""
    content = network if isinstance(network, Mapping) else weights_alone(Path(network))
    _check_place(folder)
    items = listed_items(places)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, wait, "building it"):
        _check_place(folder)
        checkpoint = _network(folder, content, trust)
        parts = Parts(folder / PARTS)
        compute = engine.faster(checkpoint.embedder().to(device), "unnormalised")
        problems = embed_items(compute, checkpoint.transform(), items, parts, device, reading)
        tell_problems(problems, items.num_rows)
        facts, vectors = parts.of(set(keys_of_items(items)) - set(problems))
        root = common_folder(items)
        about = {
            "root": root,
            "sources": [list(places)],
            "network": checkpoint.config["name"],
            "fingerprint": checkpoint.fingerprint(),
        }
        new = with_ids(completed(facts, items), np.arange(facts.num_rows))
        dimensions = next(iter(vectors)).shape[1]
        begin(folder, dimensions, [NETWORK], relative_paths(new, root), vectors, about)
        parts.clear()


def _check_place(folder: Path) -> None:
    if (folder / FILE).exists():
        raise InputError(
            f"there is an index at {folder} already. Change it with lookalike index add, update or "
            "remove; or give another out=, or remove the folder."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give another out=")
    ours = (NETWORK, PARTS, "vectors-000001.f32", "items-000001.parquet")
    others = [child.name for child in folder.glob("[!.]*") if child.name not in ours]
    if others:
        raise InputError(f"{folder} holds other files ({others[0]}): give another out=")


def _network(folder: Path, content: Mapping[str, Any], trust: Sequence[str]) -> Checkpoint:
    """The network, written into the folder; that of an earlier start must be the same."""
    file = folder / NETWORK
    if not file.is_file():
        write_content(file, {key: content[key] for key in content if key in CONTENT})
    found = read_checkpoint(file, trust)
    asked = Checkpoint(file, content[KEY]["config"], content["state_dict"], {}, 0)
    if found.fingerprint() != asked.fingerprint():
        raise InputError(
            f"{folder} was begun with another network ({found.config['name']}), and is not built "
            "yet. Give that network, or remove the folder."
        )
    return found
