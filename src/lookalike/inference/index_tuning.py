"""How many lists an index probes: measured against comparing all, on its own items as queries."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.inverted import FEW, check_kind, chosen_kind, probe_steps
from lookalike.retrieval.inverted_search import InvertedSearch

QUERIES = 500  # items that ask
TIMED = 100  # of these one by one
ENOUGH = 0.9999  # recall behind which no more is tried


@dataclass(frozen=True)
class Point:
    """What a number of probed lists gives.

    probes: lists that a query looks at.
    recall: share of the k nearest that are found, in [0, 1].
    seconds: of a single query, the median.
    """

    probes: int
    recall: float
    seconds: float


@dataclass(frozen=True)
class Curve:
    """What was measured, and what was chosen.

    points: by rising probes.
    exact_seconds: of a single query that is compared with all, the median.
    k: of the recall.
    target: recall that was asked for.
    chosen: probes that are set now; 0 where all are compared.
    """

    points: tuple[Point, ...]
    exact_seconds: float
    k: int
    target: float
    chosen: int


def tune_index(
    store: FaissFolder,
    recall: float = 0.99,
    k: int = 10,
    kind: str | None = None,
    lists: int | None = None,
    wait: float = 10.0,
) -> Curve:
    """Measure recall and latency, and set the least number of probes that reaches a recall.

    The queries are items between two neighbours in the space, so that no query is an item itself.

    Args:
        store: of the index that is changed.
        recall: that is wanted, in (0, 1].
        k: of the recall.
        kind: another structure, which is made first; null: as it is.
        lists: cells of it; by default by the number of items.
        wait: seconds, for another process that changes the index.

    Raises:
        InputError: the recall is none, there is no such structure, or one without lists gets some.
    """
    if not 0 < recall <= 1:
        raise InputError(f"recall={recall}: need more than 0 and at most 1")
    if not len(store):
        raise InputError("the index is empty: add images first")
    with store.alone(wait, "tuning it"):
        if kind is not None or lists is not None:
            _restructure(store, kind, lists)
        queries = _queries(store.vectors)
        exact, seconds = _timed(lambda some: store.exactly(some, k)[0], queries)
        if store.lists is None:
            return Curve((), seconds, k, recall, 0)
        points = _points(store.lists, queries, exact, k)
        reaching = [point.probes for point in points if point.recall >= recall]
        chosen = reaching[0] if reaching else points[-1].probes
        store.restructure(probes=chosen)
    return Curve(points, seconds, k, recall, chosen)


def _restructure(store: FaissFolder, kind: str | None, lists: int | None) -> None:
    wanted = str(store.generation.structure["wanted"]) if kind is None else kind
    check_kind(wanted)
    if lists is not None and chosen_kind(wanted, len(store)) == "flat":
        raise InputError(
            f"lists={lists}: this index compares all of its {len(store)} items. Set kind=ivf or "
            f"ivfpq, of more than {FEW} items, or leave out lists."
        )
    store.restructure(wanted=wanted, lists=lists)


def _points(
    lists: InvertedSearch, queries: NDArray[np.float32], exact: NDArray[np.int64], k: int
) -> tuple[Point, ...]:
    points = []
    for probes in probe_steps(lists.index.nlist):
        found, seconds = _timed(
            lambda some, probes=probes: lists.nearest(some, k, probes=probes)[0], queries
        )
        shared = [np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]
        points.append(Point(probes, float(np.mean(shared)), seconds))
        if points[-1].recall >= ENOUGH:
            break
    return tuple(points)


def _queries(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Items mixed with others at random, at length 1: near to some items and equal to none."""
    rng = np.random.default_rng(0)
    one, other = (np.sort(rng.choice(len(vectors), min(QUERIES, len(vectors)), replace=False))
                  for _ in range(2))  # fmt: skip
    mixed = 0.8 * vectors[one] + 0.2 * vectors[rng.permutation(other)]
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True).clip(1e-12)


def _timed(search, queries: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """Rows of all queries, and the median seconds of a single one."""
    seconds = []
    for query in queries[:TIMED]:
        start = perf_counter()
        search(query[None])
        seconds.append(perf_counter() - start)
    return search(queries), float(np.median(seconds))
