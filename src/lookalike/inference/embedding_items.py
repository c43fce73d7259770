"""From items to parts: every image that is new or has changed is embedded, and kept at once."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lookalike.data.checking import NAMED
from lookalike.data.images import Transform
from lookalike.errors import InputError
from lookalike.inference.items import Key, keys_of_items, records_of
from lookalike.inference.parts import KEPT, Parts
from lookalike.inference.streaming import EmbeddedBatch, embedded_batches
from lookalike.progress import progress_bar
from lookalike.retrieval.faiss_flat import lengths_of
from lookalike.retrieval.vector_file import check_finite

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How images are read and embedded.

    batch_size: images at once.
    num_workers: processes that read; null has one for each core.
    kept_after: images after which what is embedded is written down.
    """

    batch_size: int = 64
    num_workers: int | None = 0
    kept_after: int = 1024


READING = Reading()


def embed_items(
    compute: Callable[[Tensor], Tensor],
    transform: Transform,
    items: pa.Table,
    parts: Parts,
    device: torch.device,
    reading: Reading,
) -> dict[Key, str]:
    """Embed the images that are not in the parts yet; returns why some could not be read.

    Args:
        compute: images (B, 3, H, W) uint8 -> features (B, D), not normalised.
        transform: the view that it wants.
        items: with absolute paths.
        parts: where what is embedded is kept.
        device: where to compute.
        reading: how.
    """
    keys = keys_of_items(items)
    done = parts.done({key: size_and_time(key[0]) for key in keys})
    left = [row for row, key in enumerate(keys) if key not in done]
    if done:
        log.info("%d images are embedded already; %d are left.", len(done), len(left))
    if not left:
        return {}
    wanted = items.take(pa.array(left))
    records = records_of(wanted)
    problems: dict[int, str] = {}
    waiting: list[EmbeddedBatch] = []
    with progress_bar() as progress:
        task = progress.add_task("Embedding", total=len(records))
        for batch in embedded_batches(
            compute, transform, records, device, reading.batch_size, reading.num_workers
        ):
            problems |= batch.problems
            waiting.append(batch)
            progress.advance(task, len(batch.rows) + len(batch.problems))
            if sum(len(each.rows) for each in waiting) >= reading.kept_after:
                _keep(parts, wanted, waiting)
                waiting = []
    _keep(parts, wanted, waiting)
    return {keys[left[row]]: why for row, why in problems.items()}


def size_and_time(path: str) -> tuple[int, int]:
    """Of a file, by which a change is noticed; zeros where it is missing."""
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def tell_problems(problems: dict[Key, str], count: int) -> None:
    """Log which images are left out.

    Raises:
        InputError: none is left.
    """
    if not problems:
        return
    lines = [f"  {key[0]} ({why})" for key, why in list(problems.items())[:NAMED]]
    more = len(problems) - len(lines)
    text = "\n".join(
        [
            f"{len(problems)} of {count} images can't be read:",
            *lines,
            *([f"  and {more} more"] if more > 0 else []),
        ]
    )
    if len(problems) == count:
        raise InputError(f"{text}\nNothing is left. Give images that can be opened.")
    log.warning("%s\nThey are left out.", text)


def _keep(parts: Parts, items: pa.Table, batches: list[EmbeddedBatch]) -> None:
    rows = np.concatenate([np.zeros(0, np.int64), *(each.rows for each in batches)])
    if not len(rows):
        return
    features = np.concatenate([each.features for each in batches if len(each.rows)])
    check_finite(features)  # now, and not after all others are embedded
    facts = [fact for each in batches for fact in each.facts]
    table = items.take(pa.array(rows))
    known = {
        "length": pa.array(lengths_of(features).astype(np.float32)),
        "file_size": pa.array([fact.size for fact in facts], pa.int64()),
        "file_time": pa.array([fact.time for fact in facts], pa.int64()),
        "sha256": pa.array([fact.digest for fact in facts], pa.string()),
    }
    kept = pa.table(
        {name: known.get(name, table[name] if name not in known else None) for name in KEPT}
    )
    parts.write(kept, normalised(features))


def normalised(features: np.ndarray) -> np.ndarray:
    """Features (N, D) at length 1, with the same rounding as `Embedder.forward`."""
    return torch.nn.functional.normalize(torch.from_numpy(features)).numpy()
