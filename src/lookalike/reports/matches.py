"""What a search found: a table on the terminal, matches.csv, and a contact sheet."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from lookalike.data.records import Records
from lookalike.reports.sheet import Tile, contact_sheet
from lookalike.retrieval.lookup import Match

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


@dataclass(frozen=True, eq=False)
class Answers:
    """queries and gallery: Records; places: for each query, what was searched, for people;
    found: for each query, its matches."""

    queries: Records
    gallery: Records
    places: Sequence[str]
    found: Sequence[Sequence[Match]]

    def rows(self, count: int | None = None) -> Iterator[tuple[str, str, Sequence[Match]]]:
        """(path, place, matches) of the first queries."""
        yield from zip(
            self.queries.paths[:count].tolist(),
            self.places[:count],
            self.found[:count],
            strict=True,
        )

    def class_of(self, match: Match) -> str:
        return self.gallery.class_names[self.gallery.labels[match.row]]


def print_answers(answers: Answers) -> None:
    """A line for each match, or "no match"; `#1` is a rank."""
    table = Table("query", "searched in", "match", "class", "cosine", "Euclidean")
    for path, place, found in answers.rows(PRINTED):
        if not found:
            table.add_row(Path(path).name, place, "no match")
        for line, match in enumerate(found):
            first = ("", "") if line else (Path(path).name, place)
            name = Path(answers.gallery.paths[match.row]).name
            table.add_row(*first, name, answers.class_of(match), *_measured(match))
    Console().print(table)
    if len(answers.queries) > PRINTED:
        Console().print(f"and {len(answers.queries) - PRINTED} more queries")


def write_answers(file: Path, answers: Answers) -> None:
    """A row for each match; a query without one has a row with nothing behind it."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        for path, place, found in answers.rows():
            if not found:
                writer.writerow((path, place, *[""] * 6))
            for match in found:
                writer.writerow(
                    (
                        path,
                        place,
                        answers.gallery.paths[match.row],
                        answers.class_of(match),
                        f"{match.cosine:.6f}",
                        match.cosine_rank,
                        f"{match.euclidean:.6f}",
                        match.euclidean_rank,
                    )
                )


def answers_sheet(answers: Answers) -> Image.Image:
    """A row for each query: itself, then its matches."""
    return contact_sheet(
        [
            [
                Tile(path, _question(place, found), box=answers.queries.box(row)),
                *(_tile(answers, match) for match in found),
            ]
            for row, (path, place, found) in enumerate(answers.rows(DRAWN))
        ],
        side=160,
    )


def _question(place: str, found: Sequence[Match]) -> list[str]:
    return ["query", f"in {place}", *([] if found else ["no match"])]


def _tile(answers: Answers, match: Match) -> Tile:
    cosine, euclidean = _measured(match)
    title = [answers.class_of(match), f"cosine {cosine}", f"Euclidean {euclidean}"]
    return Tile(answers.gallery.paths[match.row], title, box=answers.gallery.box(match.row))


def _measured(match: Match) -> tuple[str, str]:
    return (
        f"{match.cosine:.3f}{_ordinal(match.cosine_rank)}",
        f"{match.euclidean:.3g}{_ordinal(match.euclidean_rank)}",
    )


def _ordinal(rank: int | None) -> str:
    return "" if rank is None else f" #{rank}"
