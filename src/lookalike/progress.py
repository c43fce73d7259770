"""Bars of progress, where somebody looks: on a terminal and in a notebook.

In a file, such as the log of a job on a cluster, each bar would be an empty line.
"""

from collections.abc import Iterable
from typing import TypeVar

import rich
import rich.progress
from rich.progress import Progress

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: float | None = None) -> Iterable[Item]:
    """The same items, with a bar that goes on with each and leaves when all are done."""
    return rich.progress.track(
        items, description, total, transient=True, disable=not _is_looked_at()
    )


def progress_bar() -> Progress:
    """A bar for tasks whose steps are told one by one; it leaves when its block ends."""
    return Progress(transient=True, disable=not _is_looked_at())


def _is_looked_at() -> bool:
    console = rich.get_console()
    return console.is_terminal or console.is_jupyter
