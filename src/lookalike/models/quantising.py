"""int8: an ONNX network whose weights, or weights and activations, are 8-bit integers."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from lookalike.models.exporting import IMAGES

# the heavy layers; others stay in float32: the division by a vector's length, and convolutions of
# groups, which have few weights (in int8 they cost MobileNetV2 half of the recall that is lost)
LAYERS = ["Conv", "Gemm", "MatMul"]


def quantised_static(content: bytes, batches: Sequence[Tensor]) -> bytes:
    """Weights and activations as integers; the range of an activation is that over some images.

    Args:
        content: of an .onnx file in float32.
        batches: of images, each (B, ...) uint8.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    with _quietly(), TemporaryDirectory() as folder:
        prepared, quantised = _prepared(content, Path(folder)), Path(folder) / "int8.onnx"
        quantize_static(
            prepared,
            quantised,
            _reader(batches),
            op_types_to_quantize=LAYERS,
            nodes_to_exclude=_in_groups(prepared),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return quantised.read_bytes()


def quantised_dynamic(content: bytes) -> bytes:
    """Weights as integers; activations are measured and rounded anew for every batch.

    Args:
        content: of an .onnx file in float32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quietly(), TemporaryDirectory() as folder:
        prepared, quantised = _prepared(content, Path(folder)), Path(folder) / "int8.onnx"
        quantize_dynamic(
            prepared,
            quantised,
            op_types_to_quantize=LAYERS,
            nodes_to_exclude=_in_groups(prepared),
            per_channel=True,
            weight_type=QuantType.QUInt8,
        )
        return quantised.read_bytes()


def _prepared(content: bytes, folder: Path) -> Path:
    """A file of the graph with the shapes that quantisation needs."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(onnx.load_from_string(content), prepared, skip_symbolic_shape=True)
    return prepared


def _in_groups(file: Path) -> list[str]:
    """The names of convolutions whose channels are in groups."""
    import onnx

    nodes = [node for node in onnx.load(file).graph.node if node.op_type == "Conv"]
    return [
        node.name for node in nodes if any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]


def _reader(batches: Sequence[Tensor]) -> Any:
    """The images as onnxruntime asks for them: one feed at a time, then None."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Feeds of the graph."""

        def __init__(self) -> None:
            self.feeds = iter({IMAGES: images.numpy()} for images in batches)

        def get_next(self) -> Any:
            """The next feed, or None at the end."""
            return next(self.feeds, None)

    return Reader()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the remarks on the graph, which are nothing to act on."""
    kept = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(kept)
