"""A trained embedder with its preprocessing: images -> vectors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lookalike.data.decoding import as_tensor, decode, to_rgb
from lookalike.data.images import Transform
from lookalike.device import find_device
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.models.embedder import Embedder


class ImageEmbedder:
    """Turns image files and PIL images into vectors.

    Args:
        embedder: in evaluation mode.
        transform: its test transform, a list of uint8 (3, h, w) -> uint8 (B, 3, H, W).
    """

    def __init__(self, embedder: Embedder, transform: Transform) -> None:
        self.embedder = embedder
        self.transform = transform

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[str | Path | Image.Image], batch_size: int = 64
    ) -> NDArray[np.float32]:
        """Files or PIL images -> (N, D) float32, of length 1.

        Raises:
            InputError: a file can't be read.
        """
        device = next(self.embedder.parameters()).device
        batches = [
            self.embedder(self._batch(images[start : start + batch_size]).to(device)).cpu()
            for start in range(0, len(images), batch_size)
        ]
        empty = torch.zeros(0, self.embedder.embedding_size)
        return torch.cat([empty, *batches]).numpy()

    def _batch(self, images: Sequence[str | Path | Image.Image]) -> Tensor:
        return self.transform([self._opened(image) for image in images])

    def _opened(self, image: str | Path | Image.Image) -> Tensor:
        if isinstance(image, Image.Image):
            return as_tensor(to_rgb(image))
        return decode(image, self.transform.short_side)


def load_embedder(file: str | Path, device: str = "cpu") -> ImageEmbedder:
    """From a checkpoint alone: an object that turns images into vectors.

    >>> embed = lookalike.load_embedder("best.ckpt")  # doctest: +SKIP
    >>> embed(["rose.jpg", Image.open("tulip.png")]).shape  # doctest: +SKIP
    (2, 128)

    Args:
        file: a checkpoint that `lookalike train` saved.
        device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one.

    Raises:
        InputError: the file is no checkpoint of lookalike's, or there is no such device.
    """
    where = find_device(device)
    checkpoint = read_checkpoint(file)
    return ImageEmbedder(checkpoint.embedder().to(where), checkpoint.transform())
