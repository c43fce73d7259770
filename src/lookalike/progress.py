"""Bars of progress, where somebody looks: on a terminal and in a notebook.

In a file, such as the log of a job on a cluster, each bar would be an empty line.
"""

from collections.abc import Iterable
from typing import TypeVar

import rich
import rich.progress
from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: float | None = None) -> Iterable[Item]:
    """The same items, with a bar that goes on with each and leaves when all are done."""
    console, disable = _shown()
    return rich.progress.track(
        items, description, total, transient=True, console=console, disable=disable
    )


def progress_bar() -> Progress:
    """A bar for tasks whose steps are told one by one; it leaves when its block ends."""
    console, disable = _shown()
    return Progress(transient=True, console=console, disable=disable)


def _shown() -> tuple[Console, bool]:
    """Where a bar is shown, and whether it is none."""
    console = rich.get_console()
    if console.is_terminal or console.is_jupyter:
        return console, False
    return Console(quiet=True), True  # before rich 14.3 a disabled bar ends in an empty line
