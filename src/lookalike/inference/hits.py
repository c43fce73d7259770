"""What a search in an index found: hits for each query, which show and export themselves."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from lookalike.errors import InputError
from lookalike.notebook import beside, captioned, paragraph, thumbnail

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # queries that are printed or drawn at most


@dataclass(frozen=True)
class Hit:
    """An item that was found.

    id: of the item; it never changes and is never given to another item.
    path: of its image, as the index has it.
    class_name: "" where it has none.
    score: cosine similarity with the query, in [-1, 1].
    rank: from 1 on.
    columns: the other columns of the item, by name.
    copies: ids of near-duplicates that were folded into this hit.
    """

    id: int
    path: str
    class_name: str
    score: float
    rank: int
    columns: dict[str, Any] = field(default_factory=dict, repr=False)
    copies: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are written into JSON and tables."""
        return {
            "rank": self.rank,
            "id": self.id,
            "path": self.path,
            "class": self.class_name,
            "score": round(self.score, 6),
            **self.columns,
            **({"copies": list(self.copies)} if self.copies else {}),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Hits(Sequence[Sequence[Hit]]):
    """For each query its hits, best first; none where nothing reaches the threshold.

    found: of each query.
    queries: what to call each query, such as its path.
    image: id -> picture of an item, for notebooks; None where there are no pictures.
    """

    found: Sequence[Sequence[Hit]]
    queries: Sequence[str]
    image: Callable[[int], Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> Sequence[Hit]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[Hit]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.found[index]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict for each hit, with the query it belongs to."""
        for query, found in zip(self.queries, self.found, strict=True):
            for hit in found:
                yield {"query": query, **hit.as_dict()}

    def __repr__(self) -> str:
        lines = []
        for query, found in list(zip(self.queries, self.found, strict=True))[:SHOWN]:
            lines.append(query)
            lines += [
                f"  {hit.rank:>3}  {hit.score:.4f}  {hit.class_name or '-':<16}  {hit.path}"
                + (f"  (+{len(hit.copies)})" if hit.copies else "")
                for hit in found
            ] or ["       no match"]
        more = len(self) - SHOWN
        return "\n".join([*lines, *([f"and {more} more queries"] if more > 0 else [])])

    def _repr_html_(self) -> str:
        rows = list(zip(self.queries, self.found, strict=True))[:SHOWN]
        return "".join(paragraph(query, bold=True) + self._figures(found) for query, found in rows)

    def to_json(self, indent: int | None = None) -> str:
        """A JSON list with one object for each query."""
        pairs = zip(self.queries, self.found, strict=True)
        content = [{"query": query, "hits": [h.as_dict() for h in found]} for query, found in pairs]
        return json.dumps(content, indent=indent, default=str)

    def to_csv(self) -> str:
        """The same as a table in CSV, with a row for each hit."""
        rows = list(self.rows())
        names = list(dict.fromkeys(name for row in rows for name in row))
        stream = StringIO()
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()

    def to_dataframe(self) -> "pandas.DataFrame":
        """The same as a pandas table.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError(
                "a DataFrame needs pandas: pip install pandas. Or use to_json or to_csv."
            ) from error
        return pandas.DataFrame(list(self.rows()))

    def _figures(self, found: Sequence[Hit]) -> str:
        if not found:
            return "<i>no match</i>"
        return beside(
            captioned(
                self._picture(hit),
                [f"{hit.rank}. {hit.score:.3f} {hit.class_name}", Path(hit.path).name],
            )
            for hit in found
        )

    def _picture(self, hit: Hit) -> str:
        try:
            return "" if self.image is None else thumbnail(self.image(hit.id), hit.path)
        except InputError:
            return "<i>missing</i>"
