"""Losses that compare two views of each image, without classes."""

from torch import Tensor, nn

from lookalike.errors import InputError


class TwoViews(nn.Module):
    """Passes the two halves of a batch to a loss; with `sampler=views` they show the same images.

    Args:
        loss: (views (B/2, D), ref_emb=their other views (B/2, D)) -> scalar.
        unit_variance: whether embeddings, which have length 1, are multiplied by the square root
            of D, so that their entries have a mean square of 1.
    """

    def __init__(self, loss: nn.Module, unit_variance: bool = False) -> None:
        super().__init__()
        self.loss = loss
        self.unit_variance = unit_variance
        self._checked = False

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 -> scalar.

        Labels are only used in the first batch, to check that both halves show the same classes.

        Raises:
            InputError: the halves differ, or pairs were mined.
        """
        half = len(labels) // 2
        if indices is not None:
            raise InputError("a loss of two views takes no mined pairs. Set miner=none.")
        # once: the sampler stays the same, and a GPU would be waited for in every step
        if not self._checked and not labels[:half].equal(labels[half:]):
            raise InputError("a loss of two views needs every image twice. Set sampler=views.")
        self._checked = True
        scale = embeddings.shape[1] ** 0.5 if self.unit_variance else 1.0
        first, second = (scale * embeddings).split(half)
        return self.loss(first, ref_emb=second)
