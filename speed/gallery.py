"""Few queries and a large gallery, as a landmark benchmark has them, beside FAISS's flat index.

    python speed/gallery.py

1,000 queries and a gallery of 1,000,000 x 512, which lies in a file that is mapped into memory.
Both look for as many neighbours. Each turn is a process of its own, whose peak memory is counted
from the moment that the data are there.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from side_by_side import ROUNDS, Table, rows, take_turns, watched, write

from lookalike.evaluation.metrics import values_of
from lookalike.memory import keep_freed_memory
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines, Name
from lookalike.retrieval.faiss_flat import import_faiss

faiss = import_faiss()  # with the kernels of this processor, for all contenders
COMMAND = "python speed/gallery.py"
PACKAGES = ("torch", "numpy", "faiss-cpu")
EACH = 10  # images of a class in the gallery, and the depth
FLAT = "FAISS, IndexFlatIP, k = {k}"
NAMES: dict[str, Name] = {"lookalike": "auto", "lookalike, engine=faiss": "faiss"}
WHOLE = "lookalike, with MAP"


def make(folder: Path, queries: int, gallery: int, size: int = 512) -> None:
    """Class centres plus noise; each query's class has EACH images in the gallery."""
    rng = np.random.default_rng(0)
    classes = gallery // EACH
    file = np.lib.format.open_memmap(
        folder / "gallery.npy", mode="w+", dtype=np.float32, shape=(gallery, size)
    )
    labels = rng.permutation(gallery) % classes
    centres = rng.standard_normal((classes, size), np.float32)
    for start in range(0, gallery, 50_000):
        part = slice(start, start + 50_000)
        file[part] = _noisy(centres[labels[part]], rng)
    file.flush()
    np.save(folder / "labels.npy", labels)
    asked = rng.choice(classes, queries, replace=False)
    np.save(folder / "queries.npy", _noisy(centres[asked], rng))
    np.save(folder / "asked.npy", asked)


def _noisy(centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    vectors = centres + 2 * rng.standard_normal(centres.shape, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(name: str, folder: Path) -> None:
    """Print seconds and MiB above the gallery, in a process of its own."""
    keep_freed_memory()
    gallery = np.load(folder / "gallery.npy", mmap_mode="r")
    queries = np.load(folder / "queries.npy")
    warm_up = float(gallery[::64].sum())  # the pages that the file fills are in memory for all
    assert np.isfinite(warm_up)
    labels, asked = np.load(folder / "labels.npy"), np.load(folder / "asked.npy")
    before = _anonymous()
    with watched(_anonymous) as seen:
        started = perf_counter()
        recall = _run(name, queries, asked, gallery, labels)
        seconds = perf_counter() - started
    print(json.dumps({"seconds": seconds, "MiB": max(seen) - before, "recall": recall}))


def _run(
    name: str, queries: np.ndarray, asked: np.ndarray, gallery: np.ndarray, labels: np.ndarray
) -> float:
    if name.startswith("FAISS"):
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(gallery)
        found = index.search(queries, EACH)[1]
        return float((labels[found] == asked[:, None]).any(axis=1).mean())
    everything = Embeddings(gallery, labels, np.arange(len(labels)))
    these = Embeddings(queries, asked, np.arange(len(asked)) + len(labels))
    engines = Engines(NAMES.get(name, "auto"))
    values = values_of(these, everything, (1, EACH), name == WHOLE, engines=engines)
    return float(values[f"recall_at_{EACH}"].mean())


def _anonymous() -> int:
    """MiB of this process's own memory, without the pages of a mapped file."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    flat = FLAT.format(k=EACH)
    told: dict[str, list[dict[str, float]]] = {name: [] for name in (flat, *NAMES, WHOLE)}

    def turn(name: str, folder: str) -> None:
        command = [sys.executable, __file__, "--measure", name, folder]
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        told[name].append(json.loads(shown))

    with TemporaryDirectory() as folder:
        make(Path(folder), options.queries, options.images)
        take_turns({name: partial(turn, name, folder) for name in told}, options.rounds, False)
    assert len({each["recall"] for turns in told.values() for each in turns}) == 1
    values = {name: tuple(each["seconds"] for each in turns) for name, turns in told.items()}
    notes = {name: f"{max(each['MiB'] for each in turns):.0f} MiB" for name, turns in told.items()}
    table = Table(
        f"Recall@k and MAP@R of {options.queries:,} queries in {options.images:,} x 512",
        COMMAND,
        "s",
        flat,
        rows(values, flat, {"lookalike": 1}, notes),
        ["MiB: the process's own memory at its peak, above the gallery in its mapped file."],
        PACKAGES,
    )
    write("gallery", [table])


if __name__ == "__main__":
    main()
