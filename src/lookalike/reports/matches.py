"""What a search found: a table on the terminal, matches.csv, and a contact sheet."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lookalike.files import write_text, writing
from lookalike.inference.lookup import Match
from lookalike.inference.search import SearchResults
from lookalike.reports.sheet import Tile, contact_sheet
from lookalike.reports.tables import Table, print_table

PRINTED, DRAWN = 40, 30  # queries at most; the rest is in the CSV
HEADER = (
    "query",
    "searched_in",
    "match",
    "class_name",
    "cosine",
    "cosine_rank",
    "euclidean",
    "euclidean_rank",
)


def print_matches(results: SearchResults, k: int) -> None:
    """A line for each match, or "no match"; `#1` is a rank.

    Args:
        results: of a search.
        k: how many were asked for by each measure.
    """
    head = ("query", "searched in", "match", "class", "cosine", "Euclidean")
    lines = [
        line
        for path, place, found in _rows(results, PRINTED)
        for line in _lines(results, Path(path).name, place, found)
    ]
    more = len(results.queries) - PRINTED
    notes = [f"and {more} more queries"] if more > 0 else []
    best = "The nearest image" if k == 1 else f"The {k} nearest images"
    if any(match.euclidean_rank for found in results.found for match in found):
        notes.append(
            f"{best} by cosine, and by the Euclidean distance of features before they get length "
            "1. Ordered by cosine; #1 is a rank."
        )
    else:
        notes.append(f"{best} by cosine; #1 is a rank.")
    print_table(Table(head, lines, len(head), notes))


def write_matches(file: Path, results: SearchResults) -> None:
    """A row for each match; a query without one has a row with nothing behind it."""
    with writing(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        for path, place, found in _rows(results):
            cells = [_cells(results, match) for match in found] or [("",) * 6]
            writer.writerows((path, place, *each) for each in cells)


def write_matches_json(file: Path, results: SearchResults) -> None:
    """The same as a list with one object for each query; with the columns of an index's items."""
    content = [
        {
            "query": path,
            "searched_in": place,
            "matches": [_described(results, match) for match in found],
        }
        for path, place, found in _rows(results)
    ]
    write_text(file, json.dumps(content, indent=1, default=str, ensure_ascii=False))


def matches_sheet(results: SearchResults) -> Image.Image:
    """A row for each query: itself, then its matches."""
    return contact_sheet(
        [
            [
                Tile(path, _question(place, found), box=results.queries.box(row)),
                *(_tile(results, match) for match in found),
            ]
            for row, (path, place, found) in enumerate(_rows(results, DRAWN))
        ],
        side=160,
    )


def _lines(
    results: SearchResults, query: str, place: str, found: Sequence[Match]
) -> list[tuple[str, ...]]:
    """Of the table on the terminal; the query stands in the first only."""
    if not found:
        return [(query, place, "no match", "", "", "")]
    names = ["/".join(Path(results.gallery.paths[match.row]).parts[-2:]) for match in found]
    return [
        (*(("", "") if line else (query, place)), name, results.class_of(match), *_measured(match))
        for line, (name, match) in enumerate(zip(names, found, strict=True))
    ]


def _cells(results: SearchResults, match: Match) -> tuple[object, ...]:
    """Of the file, behind the query and the place."""
    return (
        results.gallery.paths[match.row],
        results.class_of(match),
        f"{match.cosine:.6f}",
        match.cosine_rank,
        f"{match.euclidean:.6f}",
        match.euclidean_rank,
    )


def _described(results: SearchResults, match: Match) -> dict[str, Any]:
    return {
        "path": str(results.gallery.paths[match.row]),
        "class_name": results.class_of(match),
        "cosine": round(match.cosine, 6),
        "cosine_rank": match.cosine_rank,
        "euclidean": round(match.euclidean, 6),
        "euclidean_rank": match.euclidean_rank,
        **(results.details[match.row] if results.details else {}),
    }


def _rows(
    results: SearchResults, count: int | None = None
) -> Iterator[tuple[str, str, Sequence[Match]]]:
    """(path, place, matches) of the first queries."""
    places = [place or "the whole gallery" for place in results.places]
    paths = results.queries.paths.tolist()
    yield from zip(paths[:count], places[:count], results.found[:count], strict=True)


def _question(place: str, found: Sequence[Match]) -> list[str]:
    return ["query", f"in {place}", *([] if found else ["no match"])]


def _tile(results: SearchResults, match: Match) -> Tile:
    cosine, euclidean = _measured(match)
    title = [results.class_of(match), f"cosine {cosine}", f"Euclidean {euclidean}"]
    return Tile(results.gallery.paths[match.row], title, box=results.gallery.box(match.row))


def _measured(match: Match) -> tuple[str, str]:
    return (
        f"{match.cosine:.3f}{_ordinal(match.cosine_rank)}",
        f"{match.euclidean:.3g}{_ordinal(match.euclidean_rank)}",
    )


def _ordinal(rank: int | None) -> str:
    return "" if rank is None else f" #{rank}"
