"""What a new index is made of: images that are embedded, or parts that `lookalike embed` wrote.

Both come as blocks of vectors with their items, which are read more than once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from lookalike.errors import InputError
from lookalike.inference.embedding_items import Reading, embed_items, size_and_time, tell_problems
from lookalike.inference.item_columns import completed, with_ids
from lookalike.inference.items import OWN, keys_of_items, listed_items
from lookalike.inference.network import Network
from lookalike.inference.parts import KeptVectors, Parts
from lookalike.inference.vector_parts import VectorPart, read_parts, read_plan
from lookalike.models.embedding_engine import EmbeddingEngine

Blocks = Iterable[VectorPart]  # the columns are those of an index's items, by ascending id


class Source(Protocol):
    """What a new index is made of.

    about: what the index notes of it.
    """

    @property
    def about(self) -> dict[str, Any]: ...

    def blocks(self, parts: Parts, network: Network) -> Blocks:
        """All that can be had, once it is there.

        Args:
            parts: where what is embedded is kept meanwhile.
            network: of the index.
        """
        ...


class ImagesToEmbed:
    """Images that are embedded; what was embedded before a kill is not embedded again.

    Args:
        places: folders, files, globs or tables.
        device: where to embed.
        engine: what runs the network.
        reading: how images are read.
        first_id: that the first one gets.

    Raises:
        InputError: there are no images.
    """

    def __init__(
        self,
        places: Sequence[str],
        device: torch.device,
        engine: EmbeddingEngine,
        reading: Reading,
        first_id: int = 0,
    ) -> None:
        self.about: dict[str, Any] = {"sources": [list(places)]}
        self.items = listed_items(places)
        self.device = device
        self.engine = engine
        self.reading = reading
        self.first_id = first_id

    def blocks(self, parts: Parts, network: Network) -> Blocks:
        """Those that can be read; the others are told of."""
        compute = self.engine.faster(network.embedder.to(self.device), "unnormalised")
        problems = embed_items(compute, network.view, self.items, parts, self.device, self.reading)
        tell_problems(problems, self.items.num_rows)
        facts, vectors = parts.of(set(keys_of_items(self.items)) - set(problems))
        ids = self.first_id + np.arange(facts.num_rows)
        return _Kept(with_ids(completed(facts, self.items), ids), vectors)


@dataclass(frozen=True)
class _Kept:
    items: pa.Table
    vectors: KeptVectors

    def __iter__(self) -> Iterator[VectorPart]:
        start = 0
        for some in self.vectors:
            items = self.items.slice(start, len(some))
            yield VectorPart(items["id"].to_numpy(), some, items)
            start += len(some)


@dataclass(frozen=True)
class EmbeddedParts:
    """Parts that `lookalike embed` wrote, of the same network.

    folder: of the parts.
    """

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """There is no place that could be looked at again."""
        return {"sources": [], "vectors": str(self.folder.absolute())}

    def blocks(self, parts: Parts, network: Network) -> Blocks:
        """All parts.

        Raises:
            InputError: one is missing, or another network made them.
        """
        plan = read_plan(self.folder)
        if plan["fingerprint"] != network.fingerprint:
            raise InputError(
                f"the vectors in {self.folder} were made by another network ({plan['name']}) than "
                f"the one that is given ({network.name}). Give the one that `lookalike embed` had."
            )
        return self

    def __iter__(self) -> Iterator[VectorPart]:
        for part in read_parts(self.folder):
            yield replace(part, columns=_as_items(part.columns))


def _as_items(columns: pa.Table) -> pa.Table:
    """With all that an index notes of an item."""
    known = [size_and_time(path) for path in columns["path"].to_pylist()]
    more = {
        "length": pa.array(np.ones(len(known)), pa.float32()),  # of parts before it was noted
        "file_size": pa.array([size for size, _ in known], pa.int64()),
        "file_time": pa.array([time for _, time in known], pa.int64()),
        "sha256": pa.nulls(len(known), pa.string()),
    }
    for name in more:
        if name not in columns.column_names:
            columns = columns.append_column(name, more[name])
    rest = [name for name in columns.column_names if name not in OWN.names]
    ordered = columns.select([*OWN.names, *rest])
    return ordered.cast(pa.schema([*OWN, *(ordered.schema.field(name) for name in rest)]))
