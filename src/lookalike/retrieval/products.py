"""Products of many vectors at once, as precise as the bounds on their error assume."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def products_of(left: Tensor, right: Tensor) -> Tensor:
    """The products of all rows, (N, D) and (M, D) -> (N, M), of their dtype and on their device.

    float32 stays float32, and bfloat16 is added up in float32, whatever a program allows its
    network (`torch.set_float32_matmul_precision`).
    """
    with _full_precision():
        return left @ right.T


@contextmanager
def _full_precision() -> Iterator[None]:
    cuda = torch.backends.cuda.matmul
    precision, reduced = (
        torch.get_float32_matmul_precision(),
        cuda.allow_bf16_reduced_precision_reduction,
    )
    torch.set_float32_matmul_precision("highest")
    cuda.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        cuda.allow_bf16_reduced_precision_reduction = reduced


def flat_nonzero(mask: Tensor) -> Tensor:
    """Where a mask is true, as places in its flattened form, (P,) int64."""
    if mask.device.type != "cpu":
        return torch.nonzero(mask.flatten())[:, 0]
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # many times faster than torch's


def tensor_of(vectors: NDArray[np.float32]) -> Tensor:
    """The same memory as a tensor that is only read; it may be a file's, mapped for reading."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(vectors))
