"""Recall@k surrogate loss with similarity mixup. Patel et al., CVPR 2022, arXiv:2108.11179."""

from collections.abc import Sequence

import torch
from pytorch_metric_learning.utils.common_functions import indices_tuple_not_supported
from torch import Tensor, nn

from lookalike.data.mining import matches
from lookalike.errors import InputError
from lookalike.losses.blocks import in_blocks


class RecallAtKLoss(nn.Module):
    """One minus a smooth recall@k, with a sigmoid for each of its two steps.

    The rank of a positive is 1 plus the number of images before it, and it counts for recall@k if
    its rank is at most k. As in the authors' code, at most k positives of a query count, of at most
    k possible ones. Differs: a query is no item of its own ranking, as in evaluation; in that code
    it is, and so every rank is higher by one.

    Args:
        k: each from 1 on; the loss is the mean over them.
        k_temperatures: of the sigmoid of k minus the rank, one for each k.
        temperature: of the sigmoid of the difference of two similarities, which makes ranks.
        mixup: whether the batch is extended by mixtures, see `with_mixtures`.

    Raises:
        InputError: there are not as many temperatures as k.
    """

    def __init__(
        self,
        k: Sequence[int] = (1, 2, 4, 8, 16),
        k_temperatures: Sequence[float] = (1, 2, 4, 8, 16),
        temperature: float = 0.01,
        mixup: bool = True,
    ) -> None:
        super().__init__()
        if len(k) != len(k_temperatures):
            raise InputError(
                f"loss.k={list(k)} needs as many loss.k_temperatures, not {list(k_temperatures)}."
            )
        self.k: Tensor
        self.k_temperatures: Tensor
        self.register_buffer("k", torch.tensor(k), persistent=False)
        self.register_buffer("k_temperatures", torch.tensor(k_temperatures), persistent=False)
        self.temperature = temperature
        self.mixup = mixup

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 -> scalar in [0, 1]; 1 without a positive pair."""
        indices_tuple_not_supported(indices)
        if self.mixup:
            embeddings, labels = with_mixtures(embeddings, labels)
        similarities = embeddings @ embeddings.T
        queries, items = matches(labels, labels)[0].nonzero(as_tuple=True)  # (P,)

        def ranks_of(queries: Tensor, items: Tensor) -> Tensor:
            gaps = similarities[queries] - similarities[queries, items][:, None]  # (P, B)
            ahead = torch.sigmoid(gaps / self.temperature)
            itself = torch.stack([queries, items], 1)
            return 1 + ahead.scatter(1, itself, 0.0).sum(1)

        ranks = in_blocks(ranks_of, queries, items, columns=len(labels))
        hits = torch.sigmoid((self.k - ranks[:, None]) / self.k_temperatures)  # (P, K)
        found = hits.new_zeros(len(labels), len(self.k)).index_add(0, queries, hits)
        positives = torch.zeros_like(labels).index_add(0, queries, torch.ones_like(queries))
        most = torch.minimum(self.k, positives[:, None])
        recall = torch.minimum(found, self.k) / most.clamp(min=1)  # (B, K)
        return 1 - recall.mean(1).sum() / (positives > 0).sum().clamp(min=1)


def with_mixtures(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The batch with a random mixture of every two images of a class: SiMix.

    A mixture a x + (1 - a) y, with a drawn uniformly from [0, 1], is another query and another item
    of its class. It is not normalised, so its similarity to any vector is the mixture of those of x
    and y: the paper mixes the similarities.

    Args:
        embeddings: (B, D).
        labels: (B,) int64.

    Returns:
        (B + M, D) and (B + M,); M is the number of pairs.
    """
    first, second = matches(labels, labels)[0].triu().nonzero(as_tuple=True)  # (M,)
    share = torch.rand(len(first), 1, device=embeddings.device, dtype=embeddings.dtype)
    mixed = share * embeddings[first] + (1 - share) * embeddings[second]
    return torch.cat([embeddings, mixed]), torch.cat([labels, labels[first]])
