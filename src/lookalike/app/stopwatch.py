"""How long the steps of a piece of work take."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Stopwatch:
    """Adds up seconds by step.

    >>> watch = Stopwatch("decoding")
    >>> with watch("decoding"):
    ...     pass
    >>> list(watch.seconds)
    ['decoding']

    Args:
        steps: that there are; 0 until one is done.
    """

    def __init__(self, *steps: str) -> None:
        self.seconds = dict.fromkeys(steps, 0.0)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """A context whose time counts for a step."""
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += perf_counter() - began
