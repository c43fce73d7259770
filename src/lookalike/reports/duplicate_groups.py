"""Groups of near-duplicates: a table of what could be deleted, and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lookalike.data.lists import write_list
from lookalike.inference.index import Index
from lookalike.reports.sheet import Tile, contact_sheet
from lookalike.retrieval.near_copies import Group

DRAWN, IN_A_ROW = 30, 8  # groups, and images of each, at most; the rest is in the table
COLUMNS = ("path", "cosine", "same_content", "bytes", "kept", "kept_bytes", "group", "id")


def write_groups(file: Path, index: Index, groups: Sequence[Group]) -> None:
    """A row for each image that could be deleted, with the one that is kept instead."""
    write_list(file, COLUMNS, [row for number, group in enumerate(groups, 1)
                               for row in _rows(index, group, number)])  # fmt: skip


def groups_sheet(index: Index, groups: Sequence[Group]) -> Image.Image:
    """A row for each group: the image that is kept, then its near-duplicates."""
    return contact_sheet(
        [
            [
                _tile(index, group.kept, "kept"),
                *(
                    _tile(index, row, f"cosine {similarity:.3f}")
                    for row, similarity in zip(group.copies, group.similarities, strict=True)
                ),
            ][:IN_A_ROW]
            for group in groups[:DRAWN]
        ]
    )


def _rows(index: Index, group: Group, number: int) -> list[tuple[object, ...]]:
    ids, items = index.store.ids, index.items

    def known(name: str, row: int) -> object:
        return items[name][row].as_py()

    kept = index.path(int(ids[group.kept])), known("file_size", group.kept)
    return [
        (
            index.path(int(ids[row])),
            f"{similarity:.4f}",
            known("sha256", row) == known("sha256", group.kept),
            known("file_size", row),
            *kept,
            number,
            int(ids[row]),
        )
        for row, similarity in zip(group.copies, group.similarities, strict=True)
    ]


def _tile(index: Index, row: int, said: str) -> Tile:
    item = index.items.slice(row, 1).to_pylist()[0]
    box = [item[side] for side in ("left", "top", "right", "bottom")]
    return Tile(index.path(item["id"]), [item["class"] or "-", said], box=box)
