"""Building an index: its network is kept, and blocks of vectors become the first generation."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookalike.errors import InputError
from lookalike.inference.index_network import CHECKPOINT, EXPORTED, content_of, keep_network
from lookalike.inference.index_sources import Blocks, Source
from lookalike.inference.items import common_folder, relative_paths
from lookalike.inference.network import Network
from lookalike.inference.parts import Parts
from lookalike.retrieval.generation import FILE
from lookalike.retrieval.structure import first_structure
from lookalike.retrieval.writing import begin, held

PARTS = "parts"  # folder of what is embedded and not yet in the index
IN_DATABASE = "database.json"  # of an index whose vectors are elsewhere

# folder, name of the network's file, network, what is noted of the source, blocks -> written
Into = Callable[[Path, str, Network, Mapping[str, Any], Blocks], None]


def build(
    folder: Path,
    source: Source,
    network: str | Path | Mapping[str, Any],
    trust: Sequence[str],
    into: Into,
    wait: float,
) -> None:
    """Write a new index; see `Index.build`.

    Args:
        folder: of the index.
        source: of vectors and items.
        network: see `index_network.content_of`.
        trust: packages of your own whose parts it may name.
        into: writes what the index is beside its network.
        wait: seconds, for another process that builds the same index.

    Raises:
        InputError: there is an index already, or the network can't be read.
    """
    content = content_of(network, trust)
    _check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, wait, "building it"):
        _check_place(folder)
        name, used = keep_network(folder, content, trust)
        parts = Parts(folder / PARTS)
        into(folder, name, used, source.about, source.blocks(parts, used))
        parts.clear()


def check_in_folder(folder: str | Path) -> None:
    """Raises InputError where the vectors of an index are in a database."""
    if (Path(folder) / IN_DATABASE).is_file():
        raise InputError(
            f"the vectors of {folder} are in a database (see {IN_DATABASE} in it), which only "
            "`lookalike search` and `lookalike index add`, `remove` and `info` can ask. For more "
            "build an index without store=."
        )


def into_folder(kind: str = "auto", lists: int | None = None) -> Into:
    """The vectors into the folder itself, see `retrieval.faiss_folder`.

    Raises:
        InputError: there is no such structure.
    """
    return partial(_begin, first_structure(kind, lists))


def _begin(
    structure: dict[str, Any],
    folder: Path,
    name: str,
    network: Network,
    about: Mapping[str, Any],
    blocks: Blocks,
) -> None:
    items = pa.concat_tables([block.columns for block in blocks], promote_options="permissive")
    if not items.num_rows:
        raise InputError("nothing is embedded, so there is nothing to search: give more images")
    root = common_folder(items)
    noted = {
        "root": root,
        "network": network.name,
        "fingerprint": network.fingerprint,
        **about,
    }
    vectors = (block.vectors for block in blocks)
    dimensions = network.embedder.embedding_size
    named = relative_paths(items.combine_chunks(), root)
    begin(folder, dimensions, [name], named, vectors, noted, structure)


def _check_place(folder: Path) -> None:
    if (folder / FILE).exists() or (folder / IN_DATABASE).exists():
        raise InputError(
            f"there is an index at {folder} already. Change it with lookalike index add, update or "
            "remove; or give another out=, or remove the folder."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give another out=")
    ours = (CHECKPOINT, EXPORTED, PARTS, "vectors-000001.f32", "items-000001.parquet")
    others = [child.name for child in folder.glob("[!.]*") if child.name not in ours]
    if others:
        raise InputError(f"{folder} holds other files ({others[0]}): give another out=")
