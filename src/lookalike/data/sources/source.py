"""What every data set is asked for."""

from typing import Protocol

from lookalike.data.records import Records


class Source(Protocol):
    """A data set as it lies on disk."""

    def prepare(self) -> None:
        """Fetch or make what is missing; do nothing where all is there."""

    def records(self) -> Records:
        """Every image, with the set's own split if it has one."""
        ...
