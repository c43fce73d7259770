"""Matryoshka: a loss at several lengths, so that an embedding's first numbers are embeddings too.

Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022, arXiv:2205.13147, equation 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.config import build
from lookalike.errors import InputError

SIZES = ("embedding_size", "l", "descriptors_dim")  # what losses call the embedding size
HALVINGS = 3  # without lengths: the whole, a half, a quarter and an eighth


class MatryoshkaLoss(nn.Module):
    """The sum of a loss over embeddings cut to several lengths, each at length 1 again.

    Every length has a loss of its own, with proxies or a classifier of that size. All share the
    pairs that were mined with whole embeddings. Each term is logged.

    Args:
        loss: the configuration of a loss, as plain data.
        embedding_size: D.
        lengths: numbers of dimensions, at most D; D itself is always one. Null: D, a half, a
            quarter and an eighth of it.

    Raises:
        InputError: a length is not in 1..D.
    """

    def __init__(
        self, loss: Mapping[str, Any], embedding_size: int, lengths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        given = lengths or [embedding_size >> times for times in range(HALVINGS + 1)]
        if lengths and not 1 <= min(lengths) <= max(lengths) <= embedding_size:
            raise InputError(
                f"loss.lengths={list(lengths)}: need numbers from 1 to embedding_size="
                f"{embedding_size}."
            )
        self.lengths = sorted({embedding_size, *filter(None, given)}, reverse=True)
        self.losses = nn.ModuleList(
            build(_resized(loss, embedding_size, length)) for length in self.lengths
        )
        self.terms: dict[str, Tensor] = {}  # of the last batch, detached

    @property
    def whole(self) -> nn.Module:
        """The loss of whole embeddings."""
        return self.losses[0]

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64, mined indices -> scalar."""
        terms = {
            f"length_{length}": loss(normalize(embeddings[:, :length]), labels, indices)
            for length, loss in zip(self.lengths, self.losses, strict=True)
        }
        self.terms = {name: term.detach() for name, term in terms.items()}
        return sum(terms.values(), embeddings.new_zeros(()))


def lengths_of(loss: nn.Module) -> tuple[int, ...]:
    """The lengths below the embedding size at which a loss has trained; none for most losses."""
    return tuple(loss.lengths[1:]) if isinstance(loss, MatryoshkaLoss) else ()


def _resized(node: Any, size: int, length: int) -> Any:
    """A configuration with a length wherever it says the embedding size."""
    if isinstance(node, Mapping):
        return {
            key: length if key in SIZES and value == size else _resized(value, size, length)
            for key, value in node.items()
        }
    return [_resized(each, size, length) for each in node] if isinstance(node, list) else node
