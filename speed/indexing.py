"""An index in use: `index build` beside the embedder alone, `search` beside importing torch.

    python speed/indexing.py --images PHOTOS --weights FILE

The embedder alone decodes the same files and runs MobileNetV2 in PyTorch, too, and keeps the
vectors in memory. `search` is a process that is started anew, answers for one photograph and draws
its sheet.
"""

import argparse
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from side_by_side import ROUNDS, Table, rows, take_turns, write

from lookalike import Index, compose
from lookalike.commands.networks import given_network, network_of_index
from lookalike.data.measuring import MeasuredImages
from lookalike.device import CPU
from lookalike.inference.embedding_items import Reading
from lookalike.inference.images import find_labelled
from lookalike.memory import keep_freed_memory
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.embeddings import embed

COMMAND = "python speed/indexing.py --images PHOTOS --weights FILE"
PACKAGES = ("torch", "torchvision", "numpy", "pyarrow")
ALONE, OURS = "the embedder alone, images to vectors", "lookalike, Index.build"
TORCH, SEARCH = "import torch", "lookalike search, one photograph in an index"
BATCH, ENGINE = 64, EmbeddingEngine("torch")


def building(config: DictConfig, paths: list[str], place: Path, rounds: int) -> Table:
    """Images a second; the first index that is built is `place`/index0."""
    network, content = given_network(config), network_of_index(config)
    listed = place / "images.csv"
    listed.write_text("path,label\n" + "".join(f"{path},a\n" for path in paths))
    numbers = count()

    def alone() -> None:
        records = find_labelled(str(listed))
        loaded = MeasuredImages(records, {"test": network.view}, BATCH, None)
        compute: Any = ENGINE.faster(network.embedder, "unnormalised")
        embed(compute, loaded.loader(records.every_id), CPU)

    def ours() -> None:
        folder = place / f"index{next(numbers)}"
        Index.build(listed, folder, content, "cpu", (), ENGINE, Reading(BATCH, None))

    seconds = take_turns({ALONE: alone, OURS: ours}, rounds)
    values = {name: tuple(len(paths) / each for each in some) for name, some in seconds.items()}
    told = rows(values, ALONE, {OURS: 0.95}, lower_is_better=False)
    size = network.embedder.backbone.image_size
    title = f"index build: {len(paths)} photographs, MobileNetV2 at {size} px"
    return Table(title, COMMAND, "images/s", ALONE, told, [], PACKAGES)


def searching(photograph: str, place: Path, rounds: int) -> Table:
    """Seconds from the command to the end of its process."""
    lookalike = str(Path(sys.executable).with_name("lookalike"))
    asked = [f"index={place / 'index0'}", f"images={photograph}", f"hydra.run.dir={place}/search"]

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    seconds = take_turns(
        {
            TORCH: lambda: run(sys.executable, "-c", TORCH),
            SEARCH: lambda: run(lookalike, "search", *asked),
        },
        rounds,
    )
    told = rows(seconds, TORCH, {SEARCH: 1 / 1.3})
    return Table("search in an existing index", COMMAND, "s", TORCH, told, [], PACKAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--weights", required=True, help="of MobileNetV2")
    parser.add_argument("--size", type=int, default=160, help="of the view, pixels")
    parser.add_argument("--count", type=int, default=8192, help="images")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    keep_freed_memory()
    config = compose(
        "index",
        ["backbone=mobilenet_v2", f"backbone.weights={options.weights}",
         f"backbone.image_size={options.size}"],
    )  # fmt: skip
    paths = [
        str(Path(path).resolve()) for path in find_labelled(options.images).paths[: options.count]
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tables = [
            building(config, paths, place, options.rounds),
            searching(paths[0], place, options.rounds),
        ]
    write("indexing", tables)


if __name__ == "__main__":
    main()
