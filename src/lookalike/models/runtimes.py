"""ONNX Runtime and OpenVINO: programs that run an exported network, on the CPU.

A batch is cut into parts of a few images, and each part runs on a single thread beside the others.
No thread then waits for another within a layer: with MobileNetV2 at 160 px on 2 busy cores this was
1.3 to 1.5 times as fast as whole batches on 2 threads, with either program.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from threading import local
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.compatibility import openvino_module
from lookalike.models.exporting import IMAGES

Precision = Literal["float32", "bfloat16"]
Run = Callable[[NDArray], NDArray]  # images (b, ...) uint8 -> vectors (b, D) float32
LARGEST_PART = 8  # images


class InParts:
    """Runs the parts of a batch side by side.

    Args:
        run: called from several threads at once.
        threads: at most so many parts at once.
    """

    def __init__(self, run: Run, threads: int) -> None:
        self.run = run
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, ...) uint8 on the CPU -> vectors (B, D) float32."""
        size = max(1, min(LARGEST_PART, len(images) // self.threads))
        parts = [part.numpy() for part in images.contiguous().split(size)]
        return torch.from_numpy(np.concatenate(list(self.pool.map(self.run, parts))))


def open_onnxruntime(model: bytes, threads: int) -> InParts:
    """A network in ONNX Runtime, in float32; its first output.

    Args:
        model: that `to_onnx` made.
        threads: of the CPU.
    """
    session = onnxruntime_session(model)
    return in_onnxruntime(session, session.get_outputs()[0].name, threads)


def in_onnxruntime(session: Any, output: str, threads: int) -> InParts:
    """One output of a network that is open in ONNX Runtime."""
    return InParts(lambda images: session.run([output], {IMAGES: images})[0], threads)


def onnxruntime_session(model: bytes) -> Any:
    """A network that ONNX Runtime has opened, to be run on one thread at a time by each caller."""
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its remarks on a graph are nothing to act on
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def _core() -> Any:
    """One for the life of the process.

    The CPU plugin gives signal handlers a stack of its own, and frees it when it is unloaded with
    the last core: the next signal, such as that of a process that ends, would then end this one.
    """
    return openvino_module().Core()


def open_openvino(model: bytes, threads: int, precision: Precision = "float32") -> InParts:
    """A network in OpenVINO.

    Args:
        model: that `to_onnx` made.
        threads: of the CPU.
        precision: in which it computes; left to itself, OpenVINO takes bfloat16 where it can.
    """
    core = _core()
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        },
    )
    own = local()

    def run(images: NDArray) -> NDArray:
        if not hasattr(own, "request"):  # a request computes one thing at a time
            own.request = compiled.create_infer_request()
        return own.request.infer({IMAGES: images}, share_inputs=True)[0].copy()

    return InParts(run, threads)
