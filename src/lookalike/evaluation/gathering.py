"""What every rank of a distributed training measured, put together by id."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.device import CPU
from lookalike.distributed import gather, highest
from lookalike.retrieval.embeddings import Embeddings, collect


def gather_embeddings(own: Embeddings, records: Records, device: torch.device = CPU) -> Embeddings:
    """The embeddings of all ranks, each image once, by ascending id, with their exclusion ids.

    Args:
        own: of this rank; there may be none.
        records: have the exclusion ids.
        device: on which ranks exchange.
    """
    width = highest(own.vectors.shape[1], device)  # a rank without images does not know it
    columns = (own.vectors.reshape(len(own), width), own.labels, own.ids)
    parts = zip(*(_gather(column, device) for column in columns), strict=True)
    kept = [part for part in parts if len(part[0])]
    return with_exclusion_ids(collect(kept), records)


def gather_by_id(
    ids: NDArray[np.int64], values: dict[str, NDArray[np.float64]], device: torch.device = CPU
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """The values of all ranks in order of id, so that their sums don't depend on the ranks.

    Args:
        ids: (N,) of this rank's images or queries; another rank may have some of them, too.
        values: of each metric, (N,).
        device: on which ranks exchange.

    Returns:
        The ids of all ranks, (M,) ascending, and the values of each metric, (M,).
    """
    every_id, rows = np.unique(torch.cat(_gather(ids, device)).numpy(), return_index=True)
    return every_id, {
        name: torch.cat(_gather(column, device)).numpy()[rows] for name, column in values.items()
    }


def with_exclusion_ids(embeddings: Embeddings, records: Records) -> Embeddings:
    """The same embeddings with the exclusion ids of their records."""
    return replace(embeddings, exclusion_ids=records.exclusion_ids[embeddings.ids])


def _gather(column: NDArray, device: torch.device) -> list[torch.Tensor]:
    """The rows of all ranks, on the CPU."""
    own = torch.from_numpy(np.ascontiguousarray(column)).to(device)
    return [part.cpu() for part in gather(own)]
