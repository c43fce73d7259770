"""Softmax: cross-entropy on a linear classifier of the embedding."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class SoftmaxLoss(nn.Module):
    """Cross-entropy on a linear classifier, as in Taha et al., WACV 2020.

    Differs: embeddings have length 1 here, so they are multiplied by `scale` to give the logits a
    wide enough range; see Wang et al., "NormFace", ACM MM 2017, proposition 2.

    Args:
        num_classes: C.
        embedding_size: D.
        label_smoothing: share of the target probability that is spread over all classes, in [0, 1).
        scale: factor on the embeddings.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        label_smoothing: float = 0.0,
        scale: float = 16.0,
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_size, num_classes)
        self.label_smoothing = label_smoothing
        self.scale = scale

    def logits(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, D) float32 -> logits (B, C) float32."""
        return self.classifier(self.scale * embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor, indices: object = None) -> Tensor:
        """Embeddings (B, D), labels (B,) int64 -> the mean loss, a scalar.

        All images count equally; mined `indices` are ignored.
        """
        return cross_entropy(self.logits(embeddings), labels, label_smoothing=self.label_smoothing)
