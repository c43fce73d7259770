"""The error that a user can correct: its message says what is wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something given to lookalike (a file, an override, a checkpoint) does not fit.

    Verbs print its message alone, without a traceback. Everything else that is raised is a bug.
    """


class UnreadableFilesError(InputError):
    """Images of a data set can't be read."""


def nearest_names(wrong: str, names: Iterable[str], count: int = 3) -> list[str]:
    """At most `count` of the names that a misspelt one may have meant, the closest first.

    >>> nearest_names("tripled", ["triplet", "contrastive"])
    ['triplet']
    """
    written = {name.lower(): name for name in names}
    return [written[close] for close in get_close_matches(wrong.lower(), written, count, 0.5)]


def did_you_mean(wrong: str, names: Iterable[str]) -> str:
    """The end of a message about a misspelt name; empty where no name is close.

    >>> did_you_mean("tripled", ["triplet", "contrastive"])
    ' Did you mean triplet?'
    """
    close = nearest_names(wrong, names)
    return f" Did you mean {' or '.join(close)}?" if close else ""
