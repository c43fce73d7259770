"""Large tables in blocks of rows, computed again in the backward pass instead of kept."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lookalike.data.mining import ENTRIES


def in_blocks(
    compute: Callable[[Tensor, Tensor], Tensor], queries: Tensor, items: Tensor, columns: int
) -> Tensor:
    """The results of all pairs, from tables of at most `ENTRIES` numbers at once.

    Args:
        compute: queries (b,), items (b,) -> results (b,), by a table of b rows.
        queries: (P,).
        items: (P,).
        columns: of the table.

    Returns:
        (P,).
    """
    rows = max(1, ENTRIES // columns)
    if len(queries) <= rows:
        return compute(queries, items)
    blocks = zip(queries.split(rows), items.split(rows), strict=True)
    return torch.cat([checkpoint(compute, *block, use_reentrant=False) for block in blocks])
