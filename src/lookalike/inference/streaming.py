"""Images of files as a stream of embedded batches; what can't be read is said and left out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lookalike.data.decoding import decode, why_unreadable
from lookalike.data.images import Transform, batch_loader
from lookalike.data.records import Records
from lookalike.data.sampling import InOrder
from lookalike.errors import InputError
from lookalike.models.racing import Racing


class FileFacts(NamedTuple):
    """By which a file is recognised: its size in bytes, the time of its last change in ns, and the
    SHA-256 of what it holds."""

    size: int
    time: int
    digest: str


@dataclass(frozen=True, eq=False)
class EmbeddedBatch:
    """B images that could be read, and why others could not.

    rows: (B,) int64, of the records.
    features: (B, D) float32, not normalised.
    facts: of the files, B.
    problems: row -> why.
    """

    rows: NDArray[np.int64]
    features: NDArray[np.float32]
    facts: Sequence[FileFacts]
    problems: dict[int, str]


class _Files(Dataset[Any]):
    """Batches of images with the facts of their files, indexed with lists of rows."""

    def __init__(self, records: Records, transform: Transform) -> None:
        self.records = records
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, rows: Sequence[int]) -> "_ReadBatch":
        read, problems = {}, {}
        for row in map(int, rows):
            try:
                read[row] = self._image(row)
            except (InputError, OSError) as error:
                problems[row] = why_unreadable(error)
        views = self.transform([pixels for pixels, _ in read.values()]) if read else None
        return _ReadBatch(list(read), views, [facts for _, facts in read.values()], problems)

    def _image(self, row: int) -> tuple[Tensor, FileFacts]:
        facts, data = read_with_facts(Path(str(self.records.paths[row])))
        return decode(data, self.transform.short_side, self.records.box(row)), facts


@dataclass(frozen=True, eq=False)
class _ReadBatch:
    """views (B, 3, H, W) uint8, or None where nothing could be read."""

    rows: list[int]
    views: Tensor | None
    facts: list[FileFacts]
    problems: dict[int, str]


@torch.inference_mode()
def embedded_batches(
    compute: Callable[[Tensor], Tensor],
    transform: Transform,
    records: Records,
    device: torch.device,
    batch_size: int = 64,
    num_workers: int | None = 0,
) -> Iterator[EmbeddedBatch]:
    """Embed images batch by batch, in their order.

    Args:
        compute: images (B, 3, H, W) uint8 on the device -> features (B, D).
        transform: the view that it wants.
        records: of the images.
        device: where to compute.
        batch_size: images at once.
        num_workers: processes that read; null has one for each core.
    """
    in_order = InOrder(records.every_id, batch_size, shared=False)
    loader = batch_loader(_Files(records, transform), in_order, num_workers)
    if isinstance(compute, Racing):
        compute.expect(len(loader))
    for batch in loader:
        rows = np.array(batch.rows, dtype=np.int64)
        features = np.zeros((0, 0), np.float32)
        if batch.views is not None:
            views = batch.views.to(device, non_blocking=True)
            features = compute(views).float().cpu().numpy()
        yield EmbeddedBatch(rows, features, batch.facts, batch.problems)


def read_with_facts(path: Path) -> tuple[FileFacts, bytes]:
    """What a file holds, and by what it is recognised.

    Raises:
        OSError: it can't be read.
    """
    stat, data = path.stat(), path.read_bytes()
    return FileFacts(len(data), stat.st_mtime_ns, sha256(data).hexdigest()), data
