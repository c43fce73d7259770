"""A network in files that other programs run: ONNX, and the program that torch.export makes."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.compatibility import quiet_onnx_export

IMAGES, VECTORS = "images", "vectors"  # names of the graph's input and output
UNNORMALISED = "unnormalised"  # the second output of an exported embedder
OPSET = 18


def to_onnx(
    network: nn.Module,
    images: Tensor,
    method: str = "forward",
    outputs: Sequence[str] = (VECTORS,),
) -> bytes:
    """The content of an .onnx file that computes what a network computes, for any batch size.

    The network is traced: a path that depends on the values of pixels is not followed. PyTorch's
    exporter by tracing takes 1.4 s for MobileNetV2 on 2 cores and needs the package onnx; the one
    by torch.export takes 12 s and needs onnxscript too.

    Args:
        network: in evaluation mode and float32, on the CPU.
        images: (B, ...) uint8, one or more; their shape without B is that of the graph's input.
        method: images -> vectors (B, D), of the network; or a tuple of such tensors.
        outputs: their names in the graph.

    Raises:
        Exception: of a dozen kinds, where the exporter does not know what the network does.
    """
    from lookalike.models import onnx_resize  # imports torch.onnx

    example = _two(images)
    onnx_resize.register()
    with TemporaryDirectory() as folder, _quietly(), _plain_attention():
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            _Method(network, method).eval(),
            (example,),
            file,
            input_names=[IMAGES],
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (IMAGES, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
        return file.read_bytes()


def to_torch_export(network: nn.Module, images: Tensor, notes: Mapping[str, str]) -> bytes:
    """The content of a .pt2 file, torch.export's, that computes what a network computes.

    It takes 17 s for MobileNetV2 on 2 cores. `torch.export.load` reads it, also in C++.

    Args:
        network: in evaluation mode and float32, on the CPU; images -> tensors.
        images: (B, ...) uint8, one or more; any B is taken later.
        notes: name -> text, kept in the file.

    Raises:
        Exception: of a dozen kinds, where torch.export can't follow the network.
    """
    stream = BytesIO()
    with _quietly(), _plain_attention():
        batch = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(network, (_two(images),), dynamic_shapes=batch)
        torch.export.save(program, stream, extra_files=dict(notes))
    return stream.getvalue()


def read_torch_export(content: bytes) -> nn.Module:
    """The network in what `to_torch_export` made."""
    with _quietly():
        return torch.export.load(BytesIO(content)).module()


class BothLengths(nn.Module):
    """An embedder's vectors at length 1 and before it, of one pass.

    Args:
        embedder: has `unnormalised`, images -> vectors (B, D).
    """

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, ...) uint8 -> (B, D) of length 1, and (B, D)."""
        vectors: Tensor = self.embedder.unnormalised(images)  # type: ignore[operator]  # any module
        return normalize(vectors), vectors


def _two(images: Tensor) -> Tensor:
    """An example of a batch, which a single image would not be."""
    return images[:1].repeat(2, *[1] * (images.ndim - 1))


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
