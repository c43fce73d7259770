"""FAISS's inverted lists: vectors in cells around centroids, of which a query looks at a few.

Jegou, Douze & Schmid, TPAMI 2011. IVF holds whole vectors, IVF-PQ codes of a byte for every
`DIMENSIONS_A_BYTE` dimensions. Both only list candidates; the ranking is by exact scores. Vectors
are held under the ids of their items (no IDMap, whose ids FAISS reports shifted after removals; no
HNSW, which can't remove).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, did_you_mean
from lookalike.files import writing
from lookalike.retrieval.faiss_flat import import_faiss

Kind = Literal["auto", "flat", "ivf", "ivfpq"]
FLAT_UP_TO, IVF_UP_TO = 1_000_000, 20_000_000  # items, where the kind is chosen
FEW = 20_000  # items up to which comparing all is faster than anything else
EACH_CENTROID = 64  # vectors of the sample that each is trained with
DIMENSIONS_A_BYTE = 4  # of a code
CODED = 16  # candidates by their codes, for each hit
ADDED_AT_ONCE = 2**16  # vectors
FIRST_PROBES = 16  # cells a query looks at, until `tune` has measured

Vectors = NDArray[np.float32]


def check_kind(kind: str) -> None:
    """Raises InputError where there is no such structure."""
    if kind not in get_args(Kind):
        raise InputError(
            f"an index is one of {', '.join(get_args(Kind))}, not {kind}."
            f"{did_you_mean(str(kind), get_args(Kind))}"
        )


def chosen_kind(wanted: str, rows: int) -> str:
    """The structure for so many items: all are compared up to a million of them, and few always."""
    if wanted != "auto":
        return wanted if rows > FEW else "flat"
    return "flat" if rows <= FLAT_UP_TO else "ivf" if rows <= IVF_UP_TO else "ivfpq"


def cells_for(rows: int, lists: int | None) -> int:
    """How many cells so many vectors get, if `lists` are asked for; null: 4 times their root."""
    most = rows // import_faiss().ClusteringParameters().min_points_per_centroid
    return min(lists or int(4 * np.sqrt(rows)), most)


def trained(vectors: Vectors, kind: str, lists: int | None = None) -> Any:
    """An empty index of FAISS whose centroids are trained on a sample.

    Args:
        vectors: (N, D) of length 1, more than `FEW`.
        kind: "ivf" or "ivfpq".
        lists: cells; by default 4 times the root of N.
    """
    faiss = import_faiss()
    rows, dimensions = vectors.shape
    cells = cells_for(rows, lists)
    quantizer = faiss.IndexFlatIP(dimensions)
    if kind == "ivf":
        index = faiss.IndexIVFFlat(quantizer, dimensions, cells, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexIVFPQ(
            quantizer, dimensions, cells, _codes(dimensions), 8, faiss.METRIC_INNER_PRODUCT
        )
    rng = np.random.default_rng(0)
    size = min(rows, max(EACH_CENTROID * cells, 256 * 64))
    index.train(vectors[np.sort(rng.choice(rows, size, replace=False))])
    return index


def fill(index: Any, vectors: Vectors, ids: NDArray[np.int64]) -> None:
    """Add vectors (N, D) under their ids (N,), in blocks."""
    for start in range(0, len(ids), ADDED_AT_ONCE):
        some = slice(start, start + ADDED_AT_ONCE)
        index.add_with_ids(np.ascontiguousarray(vectors[some]), ids[some])


def write_faiss(file: Path, index: Any) -> None:
    """Write FAISS's own format, whole or not at all."""
    faiss = import_faiss()
    with writing(file, "wb") as stream:
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))


def read_faiss(file: Path, mapped: bool = True) -> Any:
    """What `write_faiss` wrote; mapped it can't be changed.

    Raises:
        InputError: it is no such file.
    """
    faiss = import_faiss()
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if mapped else 0
    try:
        index = faiss.read_index(str(file), flags)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise InputError(
            f"{file} can't be read as an index of FAISS ({reason}). Build it again: lookalike "
            f"index tune index={file.parent} kind=flat"
        ) from error
    if mapped:
        # FAISS would start 32 threads for every query, which take longer than its search
        faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
    return index


def without(index: Any, ids: NDArray[np.int64]) -> None:
    """Remove vectors by their ids."""
    if len(ids):
        index.remove_ids(import_faiss().IDSelectorBatch(ids))


def probe_steps(lists: int) -> Iterator[int]:
    """Numbers of cells to try: powers of 2, then all."""
    step = 1
    while step < lists:
        yield step
        step *= 2
    yield lists


def _codes(dimensions: int) -> int:
    """Bytes of a code: the largest divisor of D that is at most D / DIMENSIONS_A_BYTE."""
    most = max(1, dimensions // DIMENSIONS_A_BYTE)
    return next(number for number in range(most, 0, -1) if dimensions % number == 0)
