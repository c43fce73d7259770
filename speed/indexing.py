"""`index build` beside the embedder alone: what files, checksums and items cost.

    python speed/indexing.py --images PHOTOS --weights FILE

Both decode the same files and run MobileNetV2 in PyTorch; one keeps the vectors in memory.
"""

import argparse
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

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
BATCH, TORCH = 64, EmbeddingEngine("torch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--weights", required=True, help="of MobileNetV2")
    parser.add_argument("--size", type=int, default=160, help="of the view, pixels")
    parser.add_argument("--count", type=int, default=1024, help="images")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    keep_freed_memory()
    config = compose(
        "index",
        ["backbone=mobilenet_v2", f"backbone.weights={options.weights}",
         f"backbone.image_size={options.size}"],
    )  # fmt: skip
    every = find_labelled(options.images).paths.tolist()
    paths = [str(path) for path in every[: options.count]]
    network, content = given_network(config), network_of_index(config)

    with tempfile.TemporaryDirectory() as place:
        numbers = count()

        def alone() -> None:
            records = find_labelled(listed)
            images = MeasuredImages(records, {"test": network.view}, BATCH, None)
            compute: Any = TORCH.faster(network.embedder, "unnormalised")
            embed(compute, images.loader(records.every_id), CPU)

        def ours() -> None:
            folder = Path(place) / f"index{next(numbers)}"
            Index.build(listed, folder, content, "cpu", (), TORCH, Reading(BATCH, None))

        listed = f"{place}/images.csv"
        Path(listed).write_text("path,label\n" + "".join(f"{path},a\n" for path in paths))
        seconds = take_turns({ALONE: alone, OURS: ours}, options.rounds)
    values = {name: tuple(len(paths) / each for each in some) for name, some in seconds.items()}
    told = rows(values, ALONE, {OURS: 0.95}, lower_is_better=False)
    title = f"index build: {len(paths)} photographs, MobileNetV2 at {options.size} px"
    write("indexing", [Table(title, COMMAND, "images/s", ALONE, told, [], PACKAGES)])


if __name__ == "__main__":
    main()
