"""A network in use, with its preprocessing: of a checkpoint, an exported file, or pretrained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lookalike.config import build
from lookalike.data.images import Transform
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.inference.pretrained import pretrained_embedder, view_of
from lookalike.inference.trust import check_trusted
from lookalike.models.backbones import Backbone
from lookalike.models.embedder import Embedder
from lookalike.models.exported import ExportedNetwork, read_exported
from lookalike.provenance import weights_fingerprint

ONNX = ".onnx"


@dataclass(frozen=True, eq=False)
class Network:
    """What turns images into vectors.

    embedder: in evaluation mode; an exported one has no parameters and stays on the CPU.
    view: how it sees an image, a list of uint8 (3, h, w) -> uint8 (B, 3, H, W).
    view_config: the view as plain data, from which it can be built again.
    fingerprint: 16 hexadecimal digits; networks with the same one give the same vectors, to
        rounding.
    name: for people.
    checkpoint: that it is of; null for another file.
    """

    embedder: Embedder | ExportedNetwork
    view: Transform
    view_config: Mapping[str, Any]
    fingerprint: str
    name: str
    checkpoint: Checkpoint | None = None


def network_in(file: str | Path, trust: Sequence[str] = (), length: int | None = None) -> Network:
    """The network of a checkpoint, or of an .onnx file that `lookalike export` wrote.

    Args:
        file: ends in .onnx if it is exported.
        trust: packages of your own whose parts it may name.
        length: how many of an embedding's numbers are used; null for all that the file has.

    Raises:
        InputError: there is no such file, it can't be read, or names a part that is not trusted; an
            exported network can't be cut any more.
    """
    if is_exported(file):
        if length is not None:
            raise InputError(
                f"{file} is exported with a length of its own: leave out length={length}, or "
                f"export the checkpoint with it."
            )
        return _exported(read_exported(file), trust)
    checkpoint = read_checkpoint(file, trust)
    return trained_network(checkpoint if length is None else checkpoint.shortened(length))


def is_exported(file: str | Path) -> bool:
    """Whether a file is an exported network, by its name."""
    return Path(file).suffix.lower() == ONNX


def trained_network(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint.

    Raises:
        InputError: its configuration names a part that is neither known nor trusted.
    """
    return Network(
        checkpoint.embedder(),
        checkpoint.transform(),
        checkpoint.config["data"]["transform"]["test"],
        checkpoint.fingerprint(),
        str(checkpoint.config.get("name", checkpoint.file.stem)),
        checkpoint,
    )


def pretrained_network(backbone: Backbone, pooling: nn.Module, name: str) -> Network:
    """A backbone without any training: its pooled features.

    Args:
        backbone: with weights that know something.
        pooling: feature map -> features.
        name: of the backbone.
    """
    embedder, view = pretrained_embedder(backbone, pooling)
    fingerprint = weights_fingerprint(embedder.state_dict())  # as a checkpoint's, nothing folded
    return Network(embedder.for_measuring(), view, view_of(backbone), fingerprint, name)


def _exported(network: ExportedNetwork, trust: Sequence[str]) -> Network:
    notes = network.notes
    check_trusted(notes["view"], trust)
    view = build(notes["view"])
    return Network(network, view, notes["view"], notes["fingerprint"], notes["name"])
