"""A small convolutional network for Siamese training, from a well-known tutorial."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lookalike.models.backbones import Backbone, load_weights, read_state_dict


def siamese_backbone(
    channels: Sequence[int],
    hidden: Sequence[int],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    weights: str | None = None,
) -> Backbone:
    """Blocks of convolution, ReLU and batch norm at full resolution, then fully connected layers.

    Features are (B, hidden[-1]); there is no pooling. With `head=linear` and 5 dimensions this is
    the network of the tutorial, except that it takes colour images.

    Args:
        channels: of each 3 x 3 convolution.
        hidden: sizes of the fully connected layers, each followed by a ReLU.
        image_size: side of the square images, pixels; the network takes no other size.
        mean: (3,), of the training images scaled to [0, 1], for normalising.
        std: (3,), of the same images.
        weights: a file with a state dict of this network, or null for a random start.

    Raises:
        InputError: there is no such file, or its weights are of another network.
    """
    blocks = [
        nn.Sequential(
            nn.Conv2d(size_in, size_out, 3, padding=1, padding_mode="reflect"),
            nn.ReLU(),
            nn.BatchNorm2d(size_out),
        )
        for size_in, size_out in zip((3, *channels[:-1]), channels, strict=True)
    ]
    flat = channels[-1] * image_size**2
    layers = [
        nn.Sequential(nn.Linear(size_in, size_out), nn.ReLU())
        for size_in, size_out in zip((flat, *hidden[:-1]), hidden, strict=True)
    ]
    network = nn.Sequential(*blocks, nn.Flatten(), *layers)
    if weights is not None:
        load_weights(network, read_state_dict(Path(weights)), dropped=())
    return Backbone(network, image_size, mean, std)
