"""Answers: every test image as a query, with the stored images that come nearest."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.files import writing
from lookalike.reports.finished import FinishedRun
from lookalike.reports.sheet import Tile, contact_sheet, save_sheet
from lookalike.retrieval.neighbours import Gallery

COLUMNS = ("query", "query_class", "rank", "path", "class", "squared_distance", "right")


class Answers:
    """answers.csv, the nearest stored images of every query, and answers.png, some of them.

    Stored and searched is the test part. The order is that of a flat index of squared Euclidean
    distances, which of vectors of length 1 is 2 - 2 cos; a query does not find itself.

    Args:
        k: answers to a query.
        shown: queries on the picture.
        seed: of which.
    """

    def __init__(self, k: int = 5, shown: int = 8, seed: int = 0) -> None:
        self.k = k
        self.shown = shown
        self.seed = seed

    def write(self, run: FinishedRun) -> list[Path]:
        """Search every query; the paths of the table and of the picture."""
        table, picture = run.folder / "answers.csv", run.folder / "answers.png"
        found = answers(run, self.k)
        with writing(table) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            for query, ids, distances in found:
                writer.writerows(_lines(run.records, query, ids, distances))
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.choice(len(found), min(self.shown, len(found)), replace=False))
        save_sheet(contact_sheet([tiles(run.records, *found[row]) for row in rows]), picture)
        return [table, picture]


def answers(
    run: FinishedRun, k: int, only: NDArray[np.int64] | None = None
) -> list[tuple[int, list[int], list[float]]]:
    """(id of a query, ids of its nearest, their squared distances in [0, 4]), for every query.

    Args:
        run: finished.
        k: ids at most; there are fewer in a small gallery.
        only: rows of some of the queries, (Q,); null takes all.
    """
    tested = run.embeddings
    roles = run.records.roles[tested.ids]
    queries = tested[roles != "gallery"]
    queries = queries if only is None else queries[only]
    found = []
    for block in Gallery(tested[roles != "query"]).search(queries, k):
        for ids, scores in zip(block.ids, block.scores, strict=True):
            kept = ids >= 0  # there may be fewer than k
            squared = np.maximum(0.0, 2 - 2 * scores[kept])
            found.append((int(queries.ids[len(found)]), ids[kept].tolist(), squared.tolist()))
    return found


def _lines(
    records: Records, query: int, ids: list[int], distances: list[float]
) -> list[tuple[object, ...]]:
    label = records.labels[query]
    return [
        (
            records.paths[query],
            records.class_names[label],
            rank,
            records.paths[row],
            records.class_names[records.labels[row]],
            f"{distance:.6f}",
            int(records.labels[row] == label),
        )
        for rank, (row, distance) in enumerate(zip(ids, distances, strict=True), start=1)
    ]


def tiles(
    records: Records, query: int, ids: list[int], distances: list[float]
) -> list[Tile | None]:
    """A query and its answers, for a row of a contact sheet."""

    def name(row: int) -> str:
        return records.class_names[records.labels[row]]

    return [
        Tile(records.paths[query], (name(query), "query")),
        None,
        *(
            Tile(
                records.paths[row],
                (name(row), f"d² = {distance:.3g}"),
                right=bool(records.labels[row] == records.labels[query]),
            )
            for row, distance in zip(ids, distances, strict=True)
        ),
    ]
