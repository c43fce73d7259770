"""Searching a million vectors: our store beside FAISS alone, LanceDB and Milvus Lite.

    python speed/vectors.py --images FLOWERS --weights FILE --rivals .rivals/bin/python

Features of MobileNetV2, of real photographs, are projected to fewer dimensions; each vector is one
of them with noise. Every structure is tuned to recall@10 of 0.99 where it has something to tune.
Contenders take turns, query by query. FAISS alone searches the same lists with the same settings.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rival import Worker
from side_by_side import Row, Table, write

from lookalike.inference.index_tuning import tune_index
from lookalike.retrieval.faiss_flat import import_faiss
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.inverted import CODED

faiss = import_faiss()  # with the kernels of this processor, for all contenders
COMMAND = "python speed/vectors.py --images FLOWERS --weights FILE --rivals .rivals/bin/python"
PACKAGES = ("torch", "numpy", "faiss-cpu", "pymilvus", "milvus-lite")
K = 10
NOISE = 0.7  # its length beside a feature's
TARGET = 1 / 1.1  # at most 1.1 times FAISS's latency
QUERIES = {"flat": (20, 100), "ivf": (100, 1000), "ivfpq": (100, 1000)}  # one by one, together
ROUNDS = 5

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], NDArray[np.int64]]


@dataclass
class Measured:
    """Of one contender: milliseconds of single queries by round, queries/s, recall@10."""

    milliseconds: list[list[float]]
    together: list[float]
    recall: float

    def row(self, name: str, note: str, base: "Measured | None", target: float | None) -> Row:
        """The medians of the rounds, beside those of a reference."""
        values = tuple(median(each) for each in self.milliseconds)
        ratio = None if base is None else base.middle / self.middle
        every = np.concatenate(self.milliseconds)
        p50, p99 = np.percentile(every, [50, 99])
        told = (
            f"recall@{K} {self.recall:.4f}, p50 {p50:.3g} ms, p99 {p99:.3g} ms, "
            f"{median(self.together):.3g} queries/s together; {note}"
        )
        return Row(name, values, ratio, target, told)

    @property
    def middle(self) -> float:
        """Milliseconds, the median of all."""
        return float(np.median(np.concatenate(self.milliseconds)))


def real_features(images: str, weights: str, cache: Path) -> Vectors:
    """(N, 1280) of the photographs in a folder; kept in a file for the next time."""
    if not cache.is_file():
        from lookalike import compose
        from lookalike.commands.networks import given_network
        from lookalike.inference.embedder import ImageEmbedder

        chosen = ("backbone=mobilenet_v2", f"backbone.weights={weights}", "backbone.image_size=128")
        network = given_network(compose("embed", [*chosen]))
        paths = sorted(map(str, Path(images).rglob("*.jpg")))
        np.save(cache, ImageEmbedder(network.embedder, network.view)(paths))
    return np.load(cache)


def noisy(features: Vectors, count: int, dimensions: int, seed: int, rows: int = 100_000) -> Any:
    """Blocks of vectors (M, D) of length 1: features in fewer dimensions, with noise."""
    centred = features - features.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    small = centred @ axes[:, ::-1][:, :dimensions]
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    for start in range(0, count, rows):
        size = min(rows, count - start)
        noise = rng.standard_normal((size, dimensions), np.float32)
        noise *= NOISE / np.sqrt(dimensions)
        vectors = small[rng.integers(0, len(small), size)] + noise
        yield (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def measured(
    contenders: dict[str, Search], queries: Vectors, exact: NDArray[np.int64], counts: Any
) -> dict[str, Measured]:
    """Single queries in turns, then all of a batch together."""
    alone, together = queries[: counts[0]], queries[: counts[1]]
    found = {name: Measured([], [], 0.0) for name in contenders}
    for name, search in contenders.items():
        search(alone)  # warm
        ids = search(queries[: len(exact)])
        found[name].recall = _recall(exact, ids)
    for _ in range(ROUNDS):
        for name in contenders:
            found[name].milliseconds.append([])
        for query in alone:
            for name, search in contenders.items():
                started = perf_counter()
                search(query[None])
                found[name].milliseconds[-1].append(1000 * (perf_counter() - started))
    for _ in range(min(3, ROUNDS)):
        for name, search in contenders.items():
            started = perf_counter()
            search(together)
            found[name].together.append(len(together) / (perf_counter() - started))
    return found


def _recall(exact: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))


def bare(store: FaissFolder, kind: str) -> Search:
    """FAISS alone with what the store has: the same lists, probes and number of candidates."""
    vectors = store.vectors
    if kind == "flat":
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return lambda queries: index.search(queries, K)[1]
    held = faiss.read_index(str(store.folder / str(store.generation.faiss)))
    probes = store.generation.structure["probes"]
    if kind == "ivf":
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        return lambda queries: held.search(queries, K, params=parameters)[1]
    refined = faiss.IndexRefineFlat(held, faiss.swig_ptr(vectors))
    chosen = faiss.IndexRefineSearchParameters(
        k_factor=CODED, base_index_params=faiss.SearchParametersIVF(nprobe=probes)
    )
    return lambda queries: (held, refined.search(queries, K, params=chosen)[1])[1]  # keeps both


def one_kind(store: FaissFolder, kind: str, built: float, lance: Worker | None, queries: Vectors,
             exact: NDArray[np.int64]) -> Table:  # fmt: skip
    """Ours, FAISS alone and LanceDB with one structure."""
    started = perf_counter()
    if kind != "flat":
        with store.alone():
            store.restructure(wanted=kind)
    seconds = built + perf_counter() - started
    probes = 0 if kind == "flat" else tune_index(store, 0.99, K).chosen
    alone = "FAISS alone"
    contenders: dict[str, Search] = {
        alone: bare(store, kind),
        "lookalike": lambda some: store.search(some, K)[0],
    }
    found = measured(contenders, queries, exact, QUERIES[kind])
    size = sum(each for each, _ in store.generation.files.values()) / len(store)
    looked = f", {probes} of {store.generation.structure['cells']} lists" if probes else ""
    notes = {"lookalike": f"built in {seconds:.0f} s, {size:.0f} bytes a vector{looked}",
             alone: f"the same vectors{looked}"}  # fmt: skip
    rows = [
        found[name].row(name, notes[name], found[alone], TARGET if name == "lookalike" else None)
        for name in contenders
    ]
    if lance is not None:
        answer = lance(json.dumps({"kind": kind, "counts": QUERIES[kind]}))
        other = Measured(answer["milliseconds"], answer["together"], answer["recall"])
        rows.append(other.row("LanceDB", answer["note"], found[alone], None))
    title = f"{len(store):,} x {store.vectors.shape[1]}, index={kind}: a query for {K} neighbours"
    return Table(title, COMMAND, "ms", alone, rows, [], PACKAGES)


def in_milvus(vectors: Vectors, ids: NDArray[np.int64], queries: Vectors, folder: Path) -> Table:
    """Milvus Lite beside ours and FAISS alone, with as many vectors as it takes in a minute."""
    from lookalike.retrieval.milvus import MilvusStore

    ours = FaissFolder.create(folder / "few", vectors.shape[1], "flat")
    ours.add(ids, vectors, pa.table({"id": ids}))
    milvus = MilvusStore(str(folder / "vectors.db"), vectors.shape[1])
    started = perf_counter()
    milvus.add(ids, vectors, pa.table({"id": ids}))
    seconds = perf_counter() - started
    exact = ours.exactly(queries[:100], K)[0]
    alone = "FAISS alone"
    contenders: dict[str, Search] = {
        alone: bare(ours, "flat"),
        "lookalike": lambda some: ours.search(some, K)[0],
        "Milvus Lite, by store=milvus": lambda some: milvus.search(some, K)[0],
    }
    found = measured(contenders, queries, exact, QUERIES["flat"])
    milvus.close()
    notes = dict.fromkeys(contenders, "exact")
    notes["Milvus Lite, by store=milvus"] = f"filled in {seconds:.0f} s"
    rows = [found[name].row(name, notes[name], found[alone], None) for name in contenders]
    title = f"{len(vectors):,} x {vectors.shape[1]}, all compared: a query for {K} neighbours"
    return Table(title, COMMAND, "ms", alone, rows, [], PACKAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--weights", required=True, help="of MobileNetV2")
    parser.add_argument("--rivals", help="interpreter with LanceDB")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--milvus", type=int, default=20_000, help="vectors; 0 leaves it out")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--kinds", nargs="+", default=list(QUERIES))
    options = parser.parse_args()
    cache = Path(tempfile.gettempdir()) / "lookalike_speed_features.npy"
    features = real_features(options.images, options.weights, cache)
    for dimensions in options.dimensions:
        with tempfile.TemporaryDirectory() as place:
            for kind, table in every_table(features, dimensions, Path(place), options):
                write(f"vectors_{dimensions}_{kind}", [table])


def every_table(
    features: Vectors, dimensions: int, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[str, Table]]:
    """Of vectors of one length, by the structure."""
    queries = next(noisy(features, 1000, dimensions, seed=1))
    vectors = np.concatenate(list(noisy(features, options.vectors, dimensions, seed=0)))
    ids = np.arange(len(vectors))
    store = FaissFolder.create(folder / "index", dimensions, "flat")
    started = perf_counter()
    store.add(ids, vectors, pa.table({"id": ids}))
    built = perf_counter() - started
    few = vectors[: options.milvus].copy()
    exact = store.exactly(queries[:200], K)[0]
    for name, content in {"vectors": vectors, "queries": queries, "exact": exact}.items():
        np.save(folder / f"{name}.npy", content)
    del vectors
    worker = str(Path(__file__).with_name("lance_worker.py"))
    lance = Worker(options.rivals, worker, str(folder)) if options.rivals else None
    for kind in options.kinds:
        beside = lance if kind != "ivf" else None
        yield kind, one_kind(store, kind, built, beside, queries, exact)
    if lance is not None:
        lance.close()
    if options.milvus:
        yield "milvus", in_milvus(few, ids[: len(few)], queries, folder)


if __name__ == "__main__":
    main()
