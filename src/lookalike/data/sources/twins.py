"""A word on classes whose names are nearly the same, and which may be one."""

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from lookalike.data.records import class_text

NAMED = 5  # pairs at most

log = logging.getLogger(__name__)


def warn_of_twins(names: Iterable[str]) -> None:
    """Log which classes differ in nothing but case, white space or characters that look the same.

    Args:
        names: of classes, each once or more often.
    """
    similar = defaultdict(set)
    for name in {class_text(name) for name in names}:
        similar[_essence(name)].add(name)
    twins = sorted(sorted(several) for several in similar.values() if len(several) > 1)
    if twins:
        log.warning(
            "classes whose names are nearly the same, and which may be one: %s",
            "; ".join(" and ".join(map(repr, several)) for several in twins[:NAMED]),
        )


def _essence(name: str) -> str:
    """A name without case, white space and invisible characters, in compatible characters."""
    compatible = unicodedata.normalize("NFKC", name).casefold()
    shown = (c for c in compatible if unicodedata.category(c) != "Cf")
    return "".join("".join(shown).split())
