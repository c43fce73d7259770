"""A weighted sum of losses on the same embeddings, with each term logged separately."""

from collections.abc import Mapping

from torch import Tensor, nn


class WeightedSum(nn.Module):
    """sum_i weight_i x loss_i; `softmax_triplet` is one.

    Args:
        losses: name -> (embeddings (B, D), labels (B,), mined indices) -> scalar.
        weights: name -> factor, for the same names.

    Raises:
        ValueError: the names differ.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if losses.keys() != weights.keys():
            raise ValueError(f"losses {sorted(losses)}, but weights {sorted(weights)}")
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)
        self.terms: dict[str, Tensor] = {}  # of the last batch, unweighted and detached

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64, mined indices -> scalar."""
        terms = {name: loss(embeddings, labels, indices) for name, loss in self.losses.items()}
        self.terms = {name: term.detach() for name, term in terms.items()}
        return sum(
            (self.weights[name] * term for name, term in terms.items()), embeddings.new_zeros(())
        )
