"""Search by example: what of a gallery looks like each query, in its own class or everywhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.inference.classifier import Classifier, Predictions, check_same_classes
from lookalike.inference.lookup import Match, look_up
from lookalike.inference.vote import majority_vote


@dataclass(frozen=True, eq=False)
class SearchResults:
    """What was found for each query.

    queries: records of the images that ask.
    gallery: records of the images that may be found.
    places: for each query the class that was searched, None for the whole gallery.
    found: for each query its matches, best first; none for "no match".
    details: of each gallery image more that is known, by name; None for nothing.
    """

    queries: Records
    gallery: Records
    places: Sequence[str | None]
    found: Sequence[Sequence[Match]]
    details: Sequence[Mapping[str, Any]] | None = None

    def class_of(self, match: Match) -> str:
        """The name of a match's class."""
        return self.gallery.class_names[self.gallery.labels[match.row]]


def search(
    embed: Callable[[Records], NDArray[np.float32]],
    queries: Records,
    gallery: Records,
    places: Sequence[str | None],
    k: int = 1,
    threshold: float = -1.0,
) -> SearchResults:
    """The nearest gallery images of every query, by cosine and by Euclidean distance.

    Args:
        embed: records -> vectors (N, D), not normalised.
        queries: an image of the gallery that asks is not found itself.
        gallery: to be searched.
        places: for each query the class to search, None for the whole gallery.
        k: of each measure.
        threshold: matches of a lower cosine similarity are none.
    """
    asking, searched = embed(queries), embed(gallery)
    own = _own_rows(queries, gallery)
    found: list[list[Match]] = [[] for _ in places]
    for place in set(places):
        rows = np.array([row for row, other in enumerate(places) if other == place])
        searchable = gallery.every_id
        if place is not None:
            searchable = np.flatnonzero(gallery.labels_as([place]) == 0)
        answers = look_up(asking[rows], searched, searchable, own[rows], k, threshold)
        for row, answer in zip(rows, answers, strict=True):
            found[row] = answer
    return SearchResults(queries, gallery, places, found)


def not_here(results: SearchResults) -> str | None:
    """An image that was found and is no file of this machine, so that it can't be shown."""
    paths = results.gallery.paths.tolist()
    return next((path for path in paths if not Path(path).is_file()), None)


def voted_classes(predictions: Sequence[Predictions]) -> list[str]:
    """The class of every image that most models name."""
    labels = majority_vote(np.stack([each.probabilities for each in predictions])).labels
    return [predictions[0].class_names[label] for label in labels]


def check_classes_of(class_names: Sequence[str], classifiers: Sequence[Classifier]) -> None:
    """Raises InputError where classifiers can't choose the class of a gallery to search.

    Args:
        class_names: of the gallery.
        classifiers: that vote.
    """
    check_same_classes(classifiers)
    known = classifiers[0].class_names
    if not set(known) & set(class_names):
        raise InputError(
            f"the gallery has none of the classes that the checkpoint knows ({', '.join(known)}). "
            "Set within=all, or give a gallery of class folders."
        )


def _own_rows(queries: Records, gallery: Records) -> NDArray[np.int64]:
    """The row of each query's own file in the gallery, -1 where it is not there."""
    row_of = {str(Path(path).resolve()): row for row, path in enumerate(gallery.paths)}
    return np.array([row_of.get(str(Path(path).resolve()), -1) for path in queries.paths])
