"""Images by the batch: a list of record ids -> (images, labels, ids)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from lookalike.errors import InputError


class Batch(NamedTuple):
    """images (B, 3, H, W) uint8; labels (B,) int64; ids (B,) int64, rows of the Records."""

    images: Tensor
    labels: Tensor
    ids: Tensor


class ImageBatches(Dataset[Batch]):
    """The images at `paths`, read a batch at a time.

    It is indexed with a list of ids (a sampler of batches and `batch_size=None` in the
    DataLoader), so that a batch is collated where it is read.

    Args:
        paths: (N,) str, indexed by id.
        labels: (N,) int64, indexed by id.
        transform: uint8 (3, h, w) -> uint8 (3, H, W), with H and W the same for every image.
    """

    def __init__(
        self,
        paths: NDArray[np.str_],
        labels: NDArray[np.int64],
        transform: Callable[[Tensor], Tensor],
    ) -> None:
        self.paths = paths
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, ids: Sequence[int]) -> Batch:
        images = [self.transform(pil_to_tensor(read_image(self.paths[row]))) for row in ids]
        return Batch(
            torch.stack(images), torch.from_numpy(self.labels[ids]), torch.tensor(list(ids))
        )


def read_image(path: str | Path) -> Image.Image:
    """The file's picture as 8-bit RGB, upright.

    EXIF orientation is applied, transparency is laid on white, 16-bit values are divided by 256,
    grey, palette and CMYK images are converted.

    Raises:
        InputError: the file is missing, truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"can't read the image {path} ({error}). `lookalike prepare data=...` lists every "
            "unreadable image of a data set; mend or remove them."
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image -> 8-bit RGB, upright."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return Image.fromarray((np.asarray(upright) // 256).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return upright.convert("RGB")
