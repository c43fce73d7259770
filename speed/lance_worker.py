"""LanceDB in an environment of its own: builds an index of the vectors in a folder, and is asked.

`python lance_worker.py FOLDER` answers every line of input, {"kind": "flat" | "ivfpq", "counts":
[single queries, ...]}, with a line of JSON. It chooses the number of its lists, which are probed
until recall@10 reaches 0.99, as ours are; candidates are refined as many times as ours.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

K = 10
ROUNDS = 3
REFINED = 16
TARGET = 0.99


def main() -> None:
    folder = Path(sys.argv[1])
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    database = lancedb.connect(folder / "lance")
    for line in sys.stdin:
        asked = json.loads(line)
        table, seconds = made(database, folder, asked["kind"])
        print(json.dumps(measured(table, asked, queries, exact, seconds)), flush=True)


def made(database: Any, folder: Path, kind: str) -> tuple[Any, float]:
    """A table with an index, and the seconds that took."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    size = vectors.shape[1]
    started = perf_counter()
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), size)
    table = database.create_table(
        "vectors", pa.table({"id": np.arange(len(vectors)), "vector": column}), mode="overwrite"
    )
    if kind == "ivfpq":
        table.create_index(metric="dot", index_type="IVF_PQ", num_sub_vectors=size // 4)
    return table, perf_counter() - started


def measured(
    table: Any, asked: dict[str, Any], queries: np.ndarray, exact: np.ndarray, built: float
) -> dict[str, Any]:
    """Milliseconds by round, queries/s, and recall@10."""
    kind, alone = asked["kind"], asked["counts"][0]
    probes, recall = 1, recall_of(table, kind, 1, queries, exact)
    while kind != "flat" and recall < TARGET and probes < 1024:
        probes *= 2
        recall = recall_of(table, kind, probes, queries, exact)
    milliseconds = []
    for _ in range(ROUNDS):
        seconds = []
        for query in queries[:alone]:
            started = perf_counter()
            ids(table, kind, probes, query)
            seconds.append(1000 * (perf_counter() - started))
        milliseconds.append(seconds)
    looked = "" if kind == "flat" else f", {probes} lists"
    return {
        "milliseconds": milliseconds,
        "together": [1000 * alone / sum(each) for each in milliseconds],  # one after the other
        "recall": recall,
        "note": f"{lancedb.__version__}, built in {built:.0f} s{looked}",
    }


def ids(table: Any, kind: str, probes: int, query: np.ndarray) -> list[int]:
    """Of the nearest to one query."""
    search = table.search(query).distance_type("dot").limit(K).select(["id", "_distance"])
    if kind != "flat":
        search = search.nprobes(probes).refine_factor(REFINED)
    return search.to_arrow()["id"].to_pylist()


def recall_of(table: Any, kind: str, probes: int, queries: np.ndarray, exact: np.ndarray) -> float:
    """The share of the nearest that are found."""
    some = zip(queries[:20], exact[:20], strict=True)
    return float(np.mean([np.isin(row, ids(table, kind, probes, q)).mean() for q, row in some]))


if __name__ == "__main__":
    main()
