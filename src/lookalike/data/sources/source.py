"""The interface of all data sets."""

from typing import Protocol

from lookalike.data.records import Records


class Source(Protocol):
    """A data set on disk."""

    def prepare(self) -> None:
        """Download or draw what is missing; do nothing if the data set is complete.

        Raises:
            InputError: it can't be downloaded, or is damaged.
        """

    def records(self) -> Records:
        """All images, with the data set's own split if it has one.

        Raises:
            InputError: the data set is incomplete or damaged.
        """
        ...
