"""Train and test views: a list of B images, uint8 (3, h, w) each -> uint8 (B, 3, size, size).

Or (B, V, 3, size, size), V views of each image, when measuring. The Embedder normalises: once a
batch, on the device. The attribute `short_side` of a transform says how many pixels it needs, so
that images are not decoded or cached any larger.
"""

from collections.abc import Callable, Sequence
from math import floor, log

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lookalike.compatibility import torchvision_module

v2 = torchvision_module("transforms.v2")

ASPECT = 4 / 3  # largest ratio of the sides of a random crop
ATTEMPTS = 10  # draws of a crop until one fits into the image


class RandomViews:
    """A random view of every image, for training: rotation, crop, flips, then colours.

    The crop is torchvision's RandomResizedCrop (Szegedy et al., CVPR 2015), but crops are drawn for
    the whole batch at once.

    Args:
        size: side of the square output, pixels.
        min_scale: least share of the image's area that a crop covers, in (0, 1].
        horizontal_flip: probability, in [0, 1].
        vertical_flip: probability, in [0, 1].
        rotation: largest angle in both directions, degrees.
        jitter: largest relative change of brightness, contrast and saturation, in [0, 1].
        short_side: larger images are shrunk to this many pixels before they are cropped. None for
            1.5 x size: most crops are then shrunk further, and few are enlarged a little.
        interpolation: of the resizing, "bilinear" or "bicubic".
    """

    def __init__(
        self,
        size: int,
        min_scale: float = 0.25,
        horizontal_flip: float = 0.5,
        vertical_flip: float = 0.0,
        rotation: float = 0.0,
        jitter: float = 0.0,
        short_side: int | None = None,
        interpolation: str = "bilinear",
    ) -> None:
        self.size = size
        self.interpolation = interpolation
        self.min_scale = min_scale
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.short_side = short_side or round(1.5 * size)
        self.before, self.after = [], []
        if rotation:
            bilinear = v2.InterpolationMode.BILINEAR
            self.before = [v2.RandomRotation([-rotation, rotation], interpolation=bilinear)]
        if jitter:
            self.after = [v2.ColorJitter(jitter, jitter, jitter)]

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """B images, uint8 (3, h, w) each -> uint8 (B, 3, size, size)."""
        shape = (len(images), 3, self.size, self.size)
        views = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        sizes = torch.tensor([image.shape[1:] for image in images])
        for row, (top, left, height, width) in enumerate(random_boxes(sizes, self.min_scale)):
            image = _applied(self.before, images[row])
            crop = image[:, top : top + height, left : left + width]
            crop = _resized(crop, self.size, self.interpolation)
            views[row] = _applied(self.after, crop)
        _flip(views, self.horizontal_flip, -1)
        _flip(views, self.vertical_flip, -2)
        return views


class EachImage:
    """A torchvision v2 transform, applied to each image in turn.

    Args:
        transform: uint8 (3, h, w) -> uint8 (3, H, W), with the same H and W for every image.
        short_side: pixels that it needs; None for images of full size.
    """

    def __init__(
        self, transform: Callable[[Tensor], Tensor], short_side: int | None = None
    ) -> None:
        self.transform = transform
        self.short_side = short_side

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """B images, uint8 (3, h, w) each -> uint8 (B, 3, H, W)."""
        return torch.stack([self.transform(image) for image in images])


def centred(
    size: int, resize: int | None = None, crop: float = 1.0, interpolation: str = "bilinear"
) -> EachImage:
    """The view for measuring: the image resized, then its centre crop.

    Args:
        size: side of the crop, pixels.
        resize: short side before cropping, pixels; None for `size` / `crop`, rounded down.
        crop: share of the resized short side that is left, in (0, 1].
        interpolation: of the resizing, "bilinear" or "bicubic".
    """
    resize = resize or floor(size / crop + 1e-6)  # 224 / (224 / 232) is just below 232
    pipeline = v2.Compose([_resize(resize, interpolation), v2.CenterCrop(size)])
    return EachImage(pipeline, short_side=resize)


class FourViews:
    """Four views for measuring: the centre crop, the whole image as a square, and both mirrored.

    The Embedder takes the mean of their features, as Krizhevsky et al., NeurIPS 2012, section 4.1,
    take the mean of predictions. It costs four forward passes.

    Args:
        size: side of the square outputs, pixels.
        resize: see `centred`; so are
        crop: and
        interpolation: of the centre crop.
    """

    def __init__(
        self,
        size: int,
        resize: int | None = None,
        crop: float = 1.0,
        interpolation: str = "bilinear",
    ) -> None:
        self.centre = centred(size, resize, crop, interpolation)
        self.whole = _resize([size, size], interpolation)
        self.short_side = self.centre.short_side

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """B images, uint8 (3, h, w) each -> uint8 (B, 4, 3, size, size)."""
        whole = torch.stack([self.whole(image) for image in images])
        upright = torch.stack([self.centre(images), whole], 1)  # (B, 2, 3, size, size)
        return torch.cat([upright, upright.flip(-1)], 1)


def _resize(size: int | list[int], interpolation: str) -> Callable[[Tensor], Tensor]:
    return v2.Resize(size, v2.InterpolationMode(interpolation), antialias=True)


def random_boxes(sizes: Tensor, min_scale: float) -> list[list[int]]:
    """A random crop for each of B images; the area is uniform, the aspect ratio log-uniform.

    Args:
        sizes: (B, 2) int64, heights and widths, pixels.
        min_scale: least share of the image's area that a crop covers, in (0, 1].

    Returns:
        B lists of top, left, height and width, pixels. If no drawn crop fits into an image, as in a
        very long one, its crop is the largest one of an allowed aspect ratio.

    >>> random_boxes(torch.tensor([[32, 32]]), min_scale=1.0)
    [[0, 0, 32, 32]]
    """
    heights, widths = sizes[:, :1].double(), sizes[:, 1:].double()  # (B, 1)
    attempts = (len(sizes), ATTEMPTS)
    area = heights * widths * torch.empty(attempts).uniform_(min_scale, 1)
    aspect = torch.empty(attempts).uniform_(-log(ASPECT), log(ASPECT)).exp()
    drawn = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], -1).round()  # (B, A, 2)
    fits = ((drawn >= 1) & (drawn <= sizes[:, None])).all(-1)
    largest = torch.cat([heights.minimum(widths * ASPECT), widths.minimum(heights * ASPECT)], 1)
    first = drawn[torch.arange(len(sizes)), fits.int().argmax(1)]  # that fits
    extent = torch.where(fits.any(1, keepdim=True), first, largest.floor())  # (B, 2)
    place = torch.rand(len(sizes), 2) * (sizes - extent + 1)
    return torch.cat([place, extent], 1).long().tolist()


def _resized(image: Tensor, size: int, mode: str) -> Tensor:
    # a crop that is not contiguous would be resized more slowly, and lose its memory format
    dense = image[None].contiguous(memory_format=torch.channels_last)
    return interpolate(dense, (size, size), mode=mode, antialias=True)[0]


def _flip(views: Tensor, probability: float, axis: int) -> None:
    for row in (torch.rand(len(views)) < probability).nonzero().flatten().tolist():
        views[row] = views[row].flip(axis)  # one by one: indexing with a mask is six times slower


def _applied(steps: Sequence[Callable[[Tensor], Tensor]], image: Tensor) -> Tensor:
    for step in steps:
        image = step(image)
    return image
