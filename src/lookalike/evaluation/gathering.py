"""What every rank of a distributed training measured, put together by id."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.distributed import gather
from lookalike.retrieval.embeddings import Embeddings, collect


def gather_embeddings(own: Embeddings, records: Records) -> Embeddings:
    """The embeddings of all ranks, each image once, by ascending id, with their exclusion ids."""
    return with_exclusion_ids(_merge(gather(own)), records)


def gather_by_id(
    ids: NDArray[np.int64], values: dict[str, NDArray[np.float64]]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """The values of all ranks in order of id, so that their sums don't depend on the ranks.

    Args:
        ids: (N,) of this rank's images or queries.
        values: of each metric, (N,).

    Returns:
        The ids of all ranks, (M,) ascending, and the values of each metric, (M,).
    """
    parts = gather((ids, values))
    every_id = np.concatenate([part_ids for part_ids, _ in parts])
    order = np.argsort(every_id)
    return every_id[order], {
        name: np.concatenate([part[name] for _, part in parts])[order] for name in values
    }


def with_exclusion_ids(embeddings: Embeddings, records: Records) -> Embeddings:
    """The same embeddings with the exclusion ids of their records."""
    return replace(embeddings, exclusion_ids=records.exclusion_ids[embeddings.ids])


def _merge(parts: list[Embeddings]) -> Embeddings:
    return collect(
        [
            (torch.from_numpy(p.vectors), torch.from_numpy(p.labels), torch.from_numpy(p.ids))
            for p in parts
            if len(p)
        ]
    )
