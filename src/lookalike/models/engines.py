"""Engines other than PyTorch, opened for a network and compared with it."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from lookalike.models.exporting import to_onnx
from lookalike.models.runtimes import InParts, Precision, open_onnxruntime, open_openvino

Compute = Callable[[Tensor], Tensor]  # images (B, ...) uint8 -> vectors (B, D)
PACKAGES = {"onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino", "onnx")}
TOLERANCE = 1e-4  # the most by which a vector may differ from PyTorch's, as a share of its length


class UnusableError(Exception):
    """An engine can't run a network; the message says why, in a few words."""


def is_installed(engine: str) -> bool:
    """Whether the packages of an engine are there; none is imported."""
    return all(find_spec(package) for package in PACKAGES[engine])


class Exported:
    """A network for other engines, exported when the first of them needs it.

    Args:
        network: in evaluation mode and float32, on the CPU.
        method: of the network, images (B, ...) uint8 -> vectors (B, D).
        images: a batch; the exported network takes others of the same shape, apart from B.
    """

    def __init__(self, network: nn.Module, method: str, images: Tensor) -> None:
        self.network = network
        self.method = method
        self.images = images
        self.content: bytes | None = None

    def open(self, engine: str, vectors: Tensor, precision: Precision = "float32") -> Compute:
        """The network in an engine; images of another shape go to PyTorch.

        Args:
            engine: "onnxruntime" or "openvino".
            vectors: PyTorch's for the batch. In float32 the engine's must agree.
            precision: in which the engine computes.

        Raises:
            UnusableError: the network can't be exported or opened, or the vectors differ.
        """
        try:
            run = self._open(engine, precision)
            found = torch.cat([run(self.images), run(self.images[:1])])  # of any batch size
        except Exception as error:  # each package raises its own, and networks are of any kind
            raise UnusableError(f"{engine} can't run it ({_in_a_line(error)})") from error
        apart = difference(found, torch.cat([vectors, vectors[:1]]))
        if precision == "float32" and not apart <= TOLERANCE:  # nor if it is NaN
            raise UnusableError(f"{engine} differs from PyTorch by {apart:.1e} of a vector")
        shape, compute = self.images.shape[1:], getattr(self.network, self.method)
        return lambda images: run(images) if images.shape[1:] == shape else compute(images)

    def _open(self, engine: str, precision: Precision) -> InParts:
        if self.content is None:
            self.content = to_onnx(self.network, self.images, self.method)
        if engine == "onnxruntime":
            return open_onnxruntime(self.content, torch.get_num_threads())
        return open_openvino(self.content, torch.get_num_threads(), precision)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest distance between a vector and the expected one, as a share of its length.

    >>> difference(torch.tensor([[3.0, 4.5]]), torch.tensor([[3.0, 4.0]]))
    0.10000000149011612

    Args:
        found: (N, D).
        expected: (N, D), or infinitely far away.
    """
    if found.shape != expected.shape:
        return float("inf")
    lengths = expected.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((found - expected).norm(dim=1) / lengths).max())


def _in_a_line(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first[:150]}"
