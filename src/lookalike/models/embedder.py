"""Embedder: images -> unit vectors. Normalisation, backbone, pooling and head, as one module."""

from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.errors import InputError
from lookalike.models.backbones import Backbone
from lookalike.models.blocks import block_modules
from lookalike.models.folding import fold_batch_norm, foldable
from lookalike.models.freezing import Freeze
from lookalike.models.lora import Lora, NoLora, merge
from lookalike.models.pooling import AveragePooling
from lookalike.models.recomputing import recomputed


class Embedder(nn.Module):
    """The network that lookalike trains, measures and saves.

    Args:
        backbone: normalised images -> feature map or pooled features.
        pooling: feature map -> features; a backbone that pools itself needs none, which is the
            average's place.
        head: a constructor: width of the pooled features -> module from features to embeddings.
        freeze: which layers of the backbone do not learn.
        channels_last: whether weights and images have this memory format, which is the faster one
            on CPUs and recent GPUs.
        lora: whether low-rank additions learn instead of the backbone's weights.
        checkpoint_gradients: whether training computes each block of the backbone once more for
            its gradient, instead of keeping what is inside in memory.
        length: how many of an embedding's numbers are used, the first ones; null for all. It takes
            a network that was trained for it, by `MatryoshkaLoss`.

    Raises:
        InputError: nothing is left to thaw (see `Freeze`), a pooling would have no effect, `lora`
            doesn't fit the backbone, or an embedding has fewer numbers than `length`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        pooling: nn.Module,
        head: Callable[[int], nn.Module],
        freeze: Freeze,
        channels_last: bool = True,
        lora: Lora | NoLora = NoLora(),  # noqa: B008 - it can't be changed
        checkpoint_gradients: bool = False,
        length: int | None = None,
    ) -> None:
        super().__init__()
        _check_pooling(backbone, pooling)
        _check_thaw(lora, freeze)
        self.backbone = backbone
        self.pooling = pooling
        self.width = self._measure_width()
        self.head = head(self.width)
        self.length = length
        _check_length(length, self.head)
        self.freeze = freeze
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("mean", _per_channel(backbone.mean), persistent=False)
        self.register_buffer("std", _per_channel(backbone.std), persistent=False)
        self.to(memory_format=self.memory_format)
        lora.add_to(backbone)
        freeze.stop_gradients(backbone)
        self.recomputed = block_modules(backbone) if checkpoint_gradients else []
        self.train()  # Lightning keeps the modes that it finds

    @property
    def embedding_size(self) -> int:
        """D, the number of dimensions of an embedding."""
        return self.length or _size(self.head)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        self.freeze.set_eval_mode(self.backbone)
        return self

    def thaw(self, epoch: int) -> None:
        """Let the layers learn that thaw in this epoch, counted from 0; can be called again."""
        later = self.freeze.at(epoch)
        if later is not self.freeze:
            for parameter in self.freeze.thawing(self.backbone):
                parameter.requires_grad_(True)
            self.freeze = later
            self.train(self.training)

    def for_measuring(self) -> Self:
        """A faster copy in evaluation mode and float32, with batch norm folded into convolutions.

        Later training does not change the copy.
        """
        pairs = self._foldable
        copied = deepcopy(self).float().eval()
        copied.merge()
        fold_batch_norm(copied.backbone.network, pairs)
        return copied

    def merge(self) -> None:
        """Make low-rank additions a part of the weights, for good; nothing else changes."""
        merge(self.backbone)

    @cached_property
    def _foldable(self) -> list[tuple[str, str]]:
        """Cached, since training changes the weights and not the structure."""
        training = self.training
        self.eval()
        pairs = foldable(self.backbone.network)
        self.train(training)
        return pairs

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> pooled features (B, width), before the head.

        V views of each image, (B, V, 3, H, W), give their mean feature. Cached features of a
        frozen backbone, (B, width), are returned unchanged.
        """
        if images.ndim == 2:
            return images
        if images.ndim == 5:
            return self.features(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1)
        features = self.feature_map(images)
        return self.pooling(features) if features.ndim == 4 else features

    def feature_map(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> what the backbone makes of them, (B, C, h, w).

        A backbone that pools itself has no map; it gives features (B, width).
        """
        scaled = images.to(self.mean.dtype, memory_format=self.memory_format) / 255
        normalised = (scaled - self.mean) / self.std
        if not torch.is_grad_enabled():
            return self.backbone(normalised)
        with recomputed(self.backbone, self.recomputed):
            return self.backbone(normalised)

    @property
    def has_fixed_features(self) -> bool:
        """Whether training changes neither backbone nor pooling, nor their batch norm."""
        parts = [self.backbone, self.pooling]
        learns = any(p.requires_grad for part in parts for p in part.parameters())
        return not learns and self.freeze.below is None and self.freeze.thaw is None

    @torch.inference_mode()
    def _measure_width(self) -> int:
        features = torch.zeros(1, *self.backbone.shape)
        return (self.pooling(features) if features.ndim == 4 else features).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> embeddings (B, D) float32 of length 1.

        It also takes several views (B, V, 3, H, W) and cached features (B, width), as `features`.
        """
        return normalize(self.unnormalised(images))

    def unnormalised(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> embeddings (B, D) float32, before normalisation."""
        vectors = self.head(self.features(images)).float()
        return vectors if self.length is None else vectors[:, : self.length]


def _size(head: nn.Module) -> int:
    return int(head.embedding_size)  # type: ignore[arg-type]  # nn.Module hides the int


def _check_length(length: int | None, head: nn.Module) -> None:
    if length is not None and not 1 <= length <= _size(head):
        raise InputError(f"length={length}: these embeddings have {_size(head)} numbers.")


def _check_pooling(backbone: Backbone, pooling: nn.Module) -> None:
    if len(backbone.shape) == 1 and not isinstance(pooling, AveragePooling):
        raise InputError(
            f"{type(pooling).__name__} has nothing to pool: this backbone pools itself. Set "
            "pooling=average, or, with a network of timm, backbone.pool=map."
        )


def _check_thaw(lora: Lora | NoLora, freeze: Freeze) -> None:
    if isinstance(lora, Lora) and freeze.thaw is not None:
        raise InputError(
            "freeze=thaw lets weights learn that lora keeps as they are. Set lora=none, or "
            "freeze=blocks for additions in the last blocks only."
        )


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)
