"""A network as ONNX, which other programs than PyTorch run."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from lookalike.compatibility import quiet_onnx_export

IMAGES, VECTORS = "images", "vectors"  # names of the graph's input and output
OPSET = 18


def to_onnx(network: nn.Module, images: Tensor, method: str = "forward") -> bytes:
    """The content of an .onnx file that computes what a network computes, for any batch size.

    The network is traced: a path that depends on the values of pixels is not followed. PyTorch's
    exporter by tracing takes 1.4 s for MobileNetV2 on 2 cores and needs the package onnx; the one
    by torch.export takes 12 s and needs onnxscript too.

    Args:
        network: in evaluation mode and float32, on the CPU.
        images: (B, ...) uint8, one or more; their shape without B is that of the graph's input.
        method: images -> vectors (B, D), of the network.

    Raises:
        Exception: of a dozen kinds, where the exporter does not know what the network does.
    """
    example = images[:1].repeat(2, *[1] * (images.ndim - 1))  # one image would not be a batch
    with TemporaryDirectory() as folder, _quietly(), _plain_attention():
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            _Method(network, method).eval(),
            (example,),
            file,
            input_names=[IMAGES],
            output_names=[VECTORS],
            dynamic_axes={IMAGES: {0: "batch"}, VECTORS: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return file.read_bytes()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings of the exporter's age, and of sizes that are constants in a traced graph."""
    with warnings.catch_warnings(), quiet_onnx_export():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """nn.MultiheadAttention without the fused kernel, which no exporter knows."""
    kept = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(kept)


class _Method(nn.Module):
    """A method of a network as the forward pass of a module."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.network, self.name)(images)
