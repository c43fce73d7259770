"""Bicubic resizing with antialias in ONNX, which PyTorch's exporter by tracing lacks.

Transformers resize their position embedding by it for images of another size than they were trained
with. ONNX's Resize has had antialias since opset 18. PyTorch's weights are those of Pillow, whose
cubic coefficient is -0.5, and leave out what lies outside of the image.
"""

from typing import Any

import torch
from torch.onnx import symbolic_helper

OPERATOR = "aten::_upsample_bicubic2d_aa"
OPSET = 18  # the first whose Resize has antialias


def register() -> None:
    """Let `torch.onnx.export` know the operator, at opset 18 and later."""
    torch.onnx.register_custom_op_symbolic(OPERATOR, _resize, OPSET)  # type: ignore[attr-defined]  # documented


def _resize(graph: Any, image: Any, size: Any, align_corners: Any, *scales: Any) -> Any:
    """(B, C, H, W) and the size (h, w) -> (B, C, h, w)."""
    empty = graph.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    shape = graph.op("Shape", image)
    first = graph.op("Constant", value_t=torch.tensor([0]))
    third = graph.op("Constant", value_t=torch.tensor([2]))
    kept = graph.op("Slice", shape, first, third)  # B and C
    if symbolic_helper._is_packed_list(size):
        size = graph.op("Concat", *map(_row(graph), symbolic_helper._unpack_list(size)), axis_i=0)
    whole = graph.op("Concat", kept, graph.op("Cast", size, to_i=7), axis_i=0)  # 7: int64
    corners = symbolic_helper._maybe_get_const(align_corners, "b")
    return graph.op(
        "Resize", image, empty, empty, whole,
        coordinate_transformation_mode_s="align_corners" if corners else "half_pixel",
        mode_s="cubic", cubic_coeff_a_f=-0.5, antialias_i=1, exclude_outside_i=1,
    )  # fmt: skip


def _row(graph: Any) -> Any:
    """A scalar of the graph -> (1,)."""
    zero = graph.op("Constant", value_t=torch.tensor([0]))
    return lambda scalar: graph.op("Unsqueeze", scalar, zero)
