"""Losses that compare two views of each image and know no classes."""

from torch import Tensor, nn

from lookalike.errors import InputError


class TwoViews(nn.Module):
    """Gives a loss the two halves of a batch: the same images twice, as `sampler=views` has them.

    Args:
        loss: (views (B/2, D), ref_emb=their other views (B/2, D)) -> scalar.
        scale: factor on the embeddings, which have length 1.
    """

    def __init__(self, loss: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.loss = loss
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """embeddings (B, D), labels (B,) -> scalar; labels only tell whether halves can match.

        Raises:
            InputError: the halves differ, or pairs were mined.
        """
        half = len(labels) // 2
        if indices is not None:
            raise InputError("a loss of two views takes no mined pairs. Set miner=none.")
        if not labels[:half].equal(labels[half:]):
            raise InputError("a loss of two views needs every image twice. Set sampler=views.")
        first, second = (self.scale * embeddings).split(half)
        return self.loss(first, ref_emb=second)
