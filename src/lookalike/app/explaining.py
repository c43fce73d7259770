"""Why an item was found: the regions that match, for one query and one item at a time."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lookalike.app.examples import Example
from lookalike.app.messages import RegionsOut
from lookalike.app.served import Served, jpeg
from lookalike.app.vectors import ExampleVectors
from lookalike.data.decoding import as_tensor
from lookalike.errors import InputError
from lookalike.inference.regions import Regions, matching_regions

VIEW = 448  # side of the pictures, pixels
NO_MAP = "This network has no feature map that shows regions: it is exported, or pools them itself."


@dataclass(frozen=True)
class Pair:
    """A query and what it found.

    index: whose network compares.
    example: the query.
    id: the item.
    files: images that were sent, by their digests.
    """

    index: Served
    example: Example
    id: int
    files: Mapping[str, bytes]


class Explaining:
    """Pairs -> their regions; in one thread, see `BatchQueue`.

    Args:
        others: all indexes that are served.
    """

    def __init__(self, others: Mapping[str, Served]) -> None:
        self.vectors = ExampleVectors(others)

    def __call__(self, pairs: Sequence[Pair]) -> list[RegionsOut | Exception]:
        """The regions of each pair, or why there are none."""
        return [self._explained(pair) for pair in pairs]

    def _explained(self, pair: Pair) -> RegionsOut | Exception:
        index = pair.index.current()
        short_side = index.embedder.transform.short_side
        query = self.vectors.pixels(pair.example, pair.files, short_side)
        if not isinstance(query, Tensor):
            return query
        try:
            item = as_tensor(index.image(pair.id))
            return _out(matching_regions(index.embedder, query, item))
        except InputError as error:
            return error


def _out(regions: Regions | None) -> RegionsOut:
    if regions is None:
        return RegionsOut(why_not=NO_MAP)
    pictures = [b64encode(jpeg(view, VIEW)).decode() for view in regions.views]
    return RegionsOut(
        shape=list(regions.shape),
        similarity=regions.similarity.astype(float).round(3).tolist(),
        pairs=[list(pair) for pair in regions.pairs],
        views=[f"data:image/jpeg;base64,{picture}" for picture in pictures],
    )
