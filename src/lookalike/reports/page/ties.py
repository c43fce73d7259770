"""What ties a row of a table or a part of a chart to runs, so that it follows the page's filter."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from markupsafe import Markup

from lookalike.reports.saved import SavedRun

TIED = Markup(' data-{}="{}"')


@dataclass(frozen=True)
class Tie:
    """The attribute that page.js reads.

    Args:
        runs: what is tied stands for them.
        every: whether it is hidden as soon as one of the runs is; otherwise when all are.
    """

    runs: Sequence[SavedRun]
    every: bool = False

    def __html__(self) -> Markup:
        """For templates."""
        return TIED.format("every" if self.every else "some", " ".join(map(_mark, self.runs)))


def _mark(run: SavedRun) -> str:
    """8 hexadecimal digits of its folder: names are not unique, folders are long."""
    return f"{crc32(str(run.folder).encode()):08x}"
