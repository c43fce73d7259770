"""A pretrained backbone as an embedder, without any training: its pooled features."""

from functools import partial

from torch import nn

from lookalike.data.images import Transform
from lookalike.data.transforms import centred
from lookalike.models.backbones import Backbone
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze
from lookalike.models.heads import Identity


def pretrained_embedder(backbone: Backbone, pooling: nn.Module) -> tuple[Embedder, Transform]:
    """The embedder in evaluation mode on the CPU, and the view in which it sees images.

    Args:
        backbone: with weights that know something.
        pooling: feature map -> features.
    """
    nothing_learns = Freeze(below=None, batch_norm=True)
    embedder = Embedder(backbone, pooling, partial(Identity), nothing_learns)
    view = centred(backbone.image_size, None, backbone.crop, backbone.interpolation)
    return embedder.for_measuring(), view
