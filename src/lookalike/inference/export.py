"""Export: an embedder with its preprocessing in one file, compared with PyTorch on images."""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lookalike.errors import InputError
from lookalike.files import writing
from lookalike.inference.network import Network
from lookalike.models.embedder import Embedder
from lookalike.models.engines import TOLERANCE, difference
from lookalike.models.exported import FORMAT, KEY, ExportedNetwork
from lookalike.models.exporting import (
    UNNORMALISED,
    VECTORS,
    BothLengths,
    read_torch_export,
    to_onnx,
    to_torch_export,
)

Format = Literal["onnx", "torch_export"]
ENDINGS: dict[str, str] = {"onnx": ".onnx", "torch_export": ".pt2"}


def exported(network: Network, format: Format, batches: Sequence[Tensor]) -> tuple[bytes, float]:
    """The content of a file that computes what a network computes, and how far it is off.

    The graph takes uint8 images (B, 3, H, W), for any B, and gives `vectors` (B, D) of length 1 and
    `unnormalised` (B, D). Resizing and cropping are named in its metadata.

    Args:
        network: its embedder runs in PyTorch; it is moved to the CPU.
        format: "onnx" or "torch_export".
        batches: of its view's images, on which the file is compared with PyTorch.

    Returns:
        The bytes, and the largest distance of a vector from PyTorch's as a share of its length.

    Raises:
        InputError: the network can't be exported, or differs from PyTorch by more than 1e-4.
    """
    embedder = _in_pytorch(network)
    both = BothLengths(embedder).eval()
    notes = {KEY: json.dumps(described(network, "float32", batches[0].shape[1:]))}
    with torch.inference_mode():
        expected = [both(images) for images in batches]
    try:
        content, compute = _EXPORTERS[format](both, batches[0], notes)
        found = [compute(images) for images in batches]
    except InputError:
        raise
    except Exception as error:  # each exporter raises its own, and networks are of any kind
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(f"{network.name} can't be exported as {format}: {reason}") from error
    apart = max(
        difference(one, other)
        for pair in zip(found, expected, strict=True)
        for one, other in zip(*pair, strict=True)
    )
    if not apart <= TOLERANCE:  # nor if it is NaN
        raise InputError(
            f"the exported network differs from PyTorch by {apart:.1e} of a vector's length, and "
            f"at most {TOLERANCE:.0e} is allowed: nothing was written. Try another format=."
        )
    return content, apart


def described(network: Network, precision: str, image_shape: Sequence[int]) -> dict[str, Any]:
    """What an exported file says of itself, as plain data.

    Args:
        network: that is exported.
        precision: "float32" or "int8".
        image_shape: of one image in its view, (3, H, W) or (V, 3, H, W).
    """
    return {
        "format": FORMAT,
        "lookalike": version("lookalike"),
        "name": network.name,
        "fingerprint": network.fingerprint,
        "precision": precision,
        "embedding_size": network.embedder.embedding_size,
        "input": f"uint8 RGB, {list(image_shape)} after the view; normalised inside",
        "view": dict(network.view_config),
    }


def with_notes(content: bytes, notes: dict[str, str]) -> bytes:
    """An ONNX file with notes in its metadata; those of the same name are replaced."""
    import onnx  # the exporter has imported it

    model = onnx.load_from_string(content)
    kept = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, kept | notes)
    return model.SerializeToString()


def write_exported(file: Path, content: bytes) -> None:
    """Write the file, whole or not at all."""
    with writing(file, "wb") as stream:
        stream.write(content)


def _in_pytorch(network: Network) -> Embedder:
    if not isinstance(network.embedder, Embedder):
        raise InputError(f"{network.name} is exported already. Give the checkpoint that it is of.")
    return network.embedder.cpu()


Both = Callable[[Tensor], tuple[Tensor, Tensor]]


def _as_onnx(both: BothLengths, images: Tensor, notes: dict[str, str]) -> tuple[bytes, Both]:
    content = with_notes(to_onnx(both, images, outputs=(VECTORS, UNNORMALISED)), notes)
    run = ExportedNetwork(content, "the exported network")
    return content, lambda images: (run(images), run.unnormalised(images))


def _as_torch_export(
    both: BothLengths, images: Tensor, notes: dict[str, str]
) -> tuple[bytes, Both]:
    content = to_torch_export(both, images, notes)
    return content, read_torch_export(content)


_EXPORTERS = {"onnx": _as_onnx, "torch_export": _as_torch_export}
