"""From work to parts: images are read by threads, embedded, and written part by part."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.data.decoding import decode, why_unreadable
from lookalike.data.images import Transform
from lookalike.data.lists import write_list
from lookalike.data.sources.files import Skipped
from lookalike.data.sources.tars import DAMAGED
from lookalike.device import usable_workers
from lookalike.errors import InputError
from lookalike.inference.embedding_items import normalised
from lookalike.inference.network import Network
from lookalike.inference.vector_parts import part_file, write_part
from lookalike.inference.work import Sample, Work
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.faiss_flat import lengths_of

log = logging.getLogger(__name__)

Read = tuple[Sample, Tensor | None, str]  # view (1, ...) uint8, or None and why


@dataclass(frozen=True)
class Done:
    """What came of a part.

    part: its number.
    images: that were embedded.
    problems: images that could not be read.
    """

    part: int
    images: int
    problems: int


class PartEmbedder:
    """Embeds parts of some work into a folder.

    Args:
        network: on any device.
        engine: what runs it.
        work: all parts.
        folder: of the parts.
        device: where to compute.
        batch_size: images at once.
        threads: that read images; None for one for each core.
    """

    def __init__(
        self,
        network: Network,
        engine: EmbeddingEngine,
        work: Work,
        folder: Path,
        device: torch.device,
        batch_size: int = 64,
        threads: int | None = None,
    ) -> None:
        self.network = network
        self.compute = engine.faster(network.embedder.to(device), "unnormalised")
        self.work = work
        self.folder = folder
        self.device = device
        self.batch_size = batch_size
        self.threads = threads or usable_workers()

    def notes(self) -> dict[str, Any]:
        """What a part says of the network that made it."""
        return {
            "fingerprint": self.network.fingerprint,
            "name": self.network.name,
            "embedding_size": self.network.embedder.embedding_size,
            "view": dict(self.network.view_config),
        }

    def plan(self) -> dict[str, Any]:
        """What the folder is for: see `vector_parts.begin_parts`."""
        return self.notes() | {"parts": len(self.work), "images": self.work.digest}

    def __call__(self, part: int) -> Done:
        """Embed a part and write it; what can't be read is listed beside it and left out."""
        skipped, problems = Skipped(), []
        facts: list[dict[str, Any]] = []
        size = self.network.embedder.embedding_size
        features = [np.zeros((0, size), np.float32)]
        for samples, views, wrong in self._batches(self.work.samples(part, skipped)):
            problems += wrong
            if samples:
                facts += [sample.facts for sample in samples]
                features.append(self._features(views))
        problems += [(path, DAMAGED) for path in skipped.files.get(DAMAGED, [])]
        file = part_file(self.folder, part, len(self.work))
        if skipped.files:
            log.warning("%s: %s", file.name, skipped)
        if problems:
            write_list(file.with_suffix(".unreadable.csv"), ("path", "problem"), problems)
        together = np.concatenate(features)
        lengths = pa.array(lengths_of(together).astype(np.float32))
        columns = pa.Table.from_pylist(facts, schema=self.work.schema)
        columns = columns.append_column("length", lengths)
        write_part(file, columns, normalised(together), self.notes())
        return Done(part, len(facts), len(problems))

    @torch.inference_mode()
    def _features(self, views: Tensor) -> NDArray[np.float32]:
        """Not normalised."""
        return self.compute(views.to(self.device)).float().cpu().numpy()

    def _batches(
        self, samples: Iterable[Sample]
    ) -> Iterator[tuple[list[Sample], Tensor, list[tuple[str, str]]]]:
        """Those that can be read, their views (B, 3, H, W) uint8, and why others can't."""
        with ThreadPoolExecutor(self.threads) as pool:
            for read in _ahead(pool, partial(_view, self.network.view), samples, self.batch_size):
                fine = [(sample, view) for sample, view, _ in read if view is not None]
                wrong = [(each.facts["path"], why) for each, view, why in read if view is None]
                views = torch.cat([view for _, view in fine]) if fine else torch.zeros(0)
                yield [sample for sample, _ in fine], views, wrong


def _ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[Sample], Read],
    samples: Iterable[Sample],
    size: int,
) -> Iterator[Sequence[Read]]:
    """Batches of what is read; the next batch is read while one is used."""
    left = iter(samples)
    coming = None
    while batch := list(islice(left, size)):
        following = [pool.submit(read, sample) for sample in batch]
        if coming is not None:
            yield [each.result() for each in coming]
        coming = following
    if coming is not None:
        yield [each.result() for each in coming]


def _view(view: Transform, sample: Sample) -> Read:
    """A sample in the view of the network."""
    try:
        return sample, view([decode(sample.file, view.short_side, sample.box)]), ""
    except InputError as error:
        return sample, None, why_unreadable(error)
