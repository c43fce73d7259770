"""Train and test pipelines, torchvision v2 on uint8: (3, h, w) -> (3, size, size).

Normalisation is not here: the Embedder does it once a batch, on the device.
"""

from torch import nn
from torchvision.transforms import v2


def augmented(
    size: int,
    min_scale: float = 0.25,
    horizontal_flip: float = 0.5,
    vertical_flip: float = 0.0,
    rotation: float = 0.0,
    jitter: float = 0.0,
) -> nn.Module:
    """A random view for training.

    Args:
        size: side of the square output, pixels.
        min_scale: the crop covers at least this share of the image's area, in (0, 1].
        horizontal_flip: probability.
        vertical_flip: probability.
        rotation: at most this many degrees either way.
        jitter: brightness, contrast and saturation change by at most this share, in [0, 1].
    """
    steps: list[nn.Module] = []
    if rotation:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomRotation([-rotation, rotation], interpolation=bilinear))
    steps.append(v2.RandomResizedCrop(size, scale=(min_scale, 1.0), antialias=True))
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(vertical_flip))
    if jitter:
        steps.append(v2.ColorJitter(jitter, jitter, jitter))
    return v2.Compose(steps)


def centred(size: int, resize: int | None = None) -> nn.Module:
    """The view for measuring: short side to `resize` pixels (default `size`), centre crop."""
    return v2.Compose([v2.Resize(resize or size, antialias=True), v2.CenterCrop(size)])
