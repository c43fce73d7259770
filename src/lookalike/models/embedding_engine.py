"""The engine that runs a network over many images: PyTorch, ONNX Runtime or OpenVINO."""

import logging
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lookalike.errors import InputError, did_you_mean
from lookalike.models.engines import PACKAGES, Compute, Exported, UnusableError, is_installed
from lookalike.models.exported import ExportedNetwork
from lookalike.models.racing import Racing
from lookalike.models.runtimes import Precision

log = logging.getLogger(__name__)

Engine = Literal["auto", "torch", "onnxruntime", "openvino"]


@dataclass(frozen=True)
class EmbeddingEngine:
    """What runs the network where many images are embedded.

    Args:
        engine: "torch"; "onnxruntime" or "openvino", which run the exported network on the CPU;
            or "auto" for the fastest of those that are installed (see `Racing`).
        precision: "float32", in which all agree with PyTorch to 1e-4 of a vector's length.
            "bfloat16" costs some thousandths of recall, so "openvino" or "torch" must be named.

    Raises:
        InputError: there is no such engine, it is not installed, or it lacks that precision.
    """

    engine: Engine = "auto"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        _check_known("engine", self.engine, get_args(Engine))
        _check_known("precision", self.precision, get_args(Precision))
        if self.precision == "bfloat16" and self.engine not in ("torch", "openvino"):
            raise InputError(
                f"embedding.engine={self.engine} computes in float32 only. Set "
                "embedding.engine=openvino or torch for embedding.precision=bfloat16."
            )
        if self.engine in PACKAGES and not is_installed(self.engine):
            raise InputError(
                f"embedding.engine={self.engine} is not installed: pip install "
                f'"lookalike[{self.engine}]", or set embedding.engine=torch.'
            )

    def faster(self, network: nn.Module, method: str = "forward") -> Compute:
        """What computes a method of a network in place of the network.

        Args:
            network: in evaluation mode and float32, on its device; an exported one runs in ONNX
                Runtime as it is.
            method: images (B, ...) uint8 -> vectors (B, D).

        Raises:
            InputError: an exported network is to run in another engine.
        """
        if isinstance(network, ExportedNetwork):
            self._check_exported()
            return getattr(network, method)
        if self.engine == "auto":
            return Racing(network, method)
        if self.engine != "torch":
            return _Named(self, network, method)
        compute: Compute = getattr(network, method)
        return compute if self.precision == "float32" else _in_bfloat16(compute)

    def _check_exported(self) -> None:
        if self.engine not in ("auto", "onnxruntime"):
            raise InputError(
                f"embedding.engine={self.engine} can't run an exported network, only onnxruntime. "
                "Leave embedding.engine=auto, or give the checkpoint."
            )


class _Named:
    """The engine that the user named, opened with the first batch."""

    def __init__(self, wanted: EmbeddingEngine, network: nn.Module, method: str) -> None:
        self.wanted = wanted
        self.network = network
        self.method = method
        self.compute: Compute | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if self.compute is None:
            self.compute = self._open(images)
        return self.compute(images)

    def _open(self, images: Tensor) -> Compute:
        engine, precision = self.wanted.engine, self.wanted.precision
        if images.device.type != "cpu":
            raise InputError(
                f"embedding.engine={engine} runs on the CPU, not on {images.device}. Set "
                "device=cpu, or embedding.engine=torch."
            )
        vectors = getattr(self.network, self.method)(images)
        try:
            opened = Exported(self.network, self.method, images).open(engine, vectors, precision)
        except UnusableError as error:
            raise InputError(f"{error}. Set embedding.engine=torch.") from error
        log.info("Embedding with %s in %s, as configured.", engine, precision)
        return opened


def _in_bfloat16(compute: Compute) -> Compute:
    def inside(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return compute(images)

    return inside


def _check_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(
            f"embedding.{name}={value} is not known; there are {', '.join(known)}."
            f"{did_you_mean(str(value), known)}"
        )
