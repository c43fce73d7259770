"""A pretrained backbone as an embedder, without any training: its pooled features."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from lookalike.config import build
from lookalike.data.images import Transform
from lookalike.inference.checkpoint import FORMAT, KEY
from lookalike.models.backbones import Backbone
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze
from lookalike.models.heads import Identity


def pretrained_embedder(backbone: Backbone, pooling: nn.Module) -> tuple[Embedder, Transform]:
    """The embedder on the CPU, and the view in which it sees images.

    Args:
        backbone: with weights that know something.
        pooling: feature map -> features.
    """
    nothing_learns = Freeze(below=None, batch_norm=True)
    embedder = Embedder(backbone, pooling, partial(Identity), nothing_learns)
    return embedder, build(view_of(backbone))


def view_of(backbone: Backbone) -> dict[str, Any]:
    """How a backbone sees images, as the configuration of that view."""
    return {
        "_target_": "lookalike.data.transforms.centred",
        "size": backbone.image_size,
        "crop": backbone.crop,
        "interpolation": backbone.interpolation,
    }


def pretrained_content(backbone: Mapping[str, Any], pooling: Mapping[str, Any]) -> dict[str, Any]:
    """The same network as the content of a checkpoint, which alone rebuilds it.

    Args:
        backbone: its configuration, as plain data, with weights that know something.
        pooling: likewise.
    """
    parts = {
        "_target_": "lookalike.models.embedder.Embedder",
        "backbone": dict(backbone),
        "pooling": dict(pooling),
        "head": {"_target_": "lookalike.models.heads.Identity", "_partial_": True},
        "freeze": {
            "_target_": "lookalike.models.freezing.Freeze", "below": None, "batch_norm": True,
        },
    }  # fmt: skip
    embedder: Embedder = build(parts)
    view = view_of(embedder.backbone)
    config = {
        "name": f"{backbone.get('name', 'backbone')} (pretrained)",
        "embedder": parts,
        "loss": {"_target_": "torch.nn.Identity"},
        "data": {"transform": {"test": view}},
    }
    ours = {"format": FORMAT, "config": config, "scores": {}, "epochs": 0, "class_names": []}
    state = {f"embedder.{name}": value for name, value in embedder.state_dict().items()}
    return {KEY: ours, "state_dict": state}
