"""The feature cache: the features of every image from a frozen backbone, computed once.

A folder holds the memory-mapped `views.npy`: (V, N, width) float32, the features of V views of
every record, and `manifest.json`, its checksums. Rows of records that were not computed are zero.
"""

import inspect
from collections.abc import Callable, Sequence
from enum import Enum
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, open_memmap, write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lookalike.data.cached_folder import build_or_load
from lookalike.data.images import Batch
from lookalike.files import allocate
from lookalike.progress import track

FILE = "views.npy"


class Features:
    """Features by record id, (width,) float32, of one of V views, chosen at random each time.

    Args:
        views: (V, N, width) float32.
    """

    def __init__(self, views: NDArray[np.float32]) -> None:
        self.views = views

    def __len__(self) -> int:
        return self.views.shape[1]

    def __getitem__(self, row: int) -> Tensor:
        view = int(torch.randint(len(self.views), ())) if len(self.views) > 1 else 0
        return torch.from_numpy(self.views[view, row])


def cached_features(
    folder: str | Path,
    key: str,
    compute: Callable[[Tensor], Tensor],
    passes: Sequence[DataLoader[Batch]],
    shape: tuple[int, int],
) -> Features:
    """The features of all images, from a cache that is computed if it is missing.

    Args:
        folder: where caches lie, each in a folder of its own.
        key: a digest of all that the features depend on.
        compute: images (B, 3, H, W) uint8 -> features (B, width).
        passes: over the images, one for each of V views.
        shape: N, the number of records, and the width.
    """
    full_shape = (len(passes), *shape)
    return build_or_load(
        Path(folder) / f"features-{key}",
        lambda empty: _compute_views(empty / FILE, compute, passes, full_shape),
        lambda built: _load_views(built / FILE, full_shape),
    )


@torch.inference_mode()
def _compute_views(
    file: Path,
    compute: Callable[[Tensor], Tensor],
    passes: Sequence[DataLoader[Batch]],
    shape: tuple[int, int, int],
) -> None:
    views = _zeros_on_disk(file, shape)
    for view, batches in zip(views, passes, strict=True):
        for images, _, ids in track(batches, "Features of the frozen backbone", len(batches)):
            view[ids.numpy()] = compute(images).float().cpu().numpy()
    views.flush()


def _zeros_on_disk(file: Path, shape: tuple[int, int, int]) -> np.memmap:
    """A mapped array whose room is taken: a full disk is an error here, and no signal later."""
    values = np.dtype(np.float32)
    header = {"descr": dtype_to_descr(values), "fortran_order": False, "shape": shape}
    with open(file, "wb") as stream:
        write_array_header_1_0(stream, header)
        allocate(stream, stream.tell() + prod(shape) * values.itemsize)
    return open_memmap(file, "r+")


def _load_views(file: Path, shape: tuple[int, int, int]) -> Features:
    # copy on write: torch needs writable memory, and the file must not change
    views = np.load(file, mmap_mode="c")
    if views.shape != shape:
        raise ValueError(f"holds {views.shape}, expected {shape}")
    return Features(views.view(np.ndarray))


def description(part: object) -> str:
    """An object's settings and those of its parts, the same in every process.

    It has settings that `repr` leaves out of a module (normalisation, epsilon), and no addresses.
    Tensors are left out.

    >>> description(nn.Sequential(nn.Dropout(0.5)))
    'Sequential(0=Dropout(inplace=False,p=0.5))'

    Args:
        part: a module, a transform, or a container of such.
    """
    if isinstance(part, list | tuple):
        return f"[{','.join(map(description, part))}]"
    if isinstance(part, dict):
        return f"{{{','.join(f'{key}={description(part[key])}' for key in part)}}}"
    if inspect.isroutine(part) or isinstance(part, type):
        return f"{part.__module__}.{part.__qualname__}"
    if isinstance(part, Enum) or not hasattr(part, "__dict__"):
        return repr(part)
    public = {key: value for key, value in vars(part).items() if not key.startswith("_")}
    children = dict(part.named_children()) if isinstance(part, nn.Module) else {}
    settings = {
        key: description(value)
        for key, value in sorted((public | children).items())
        if key != "training" and not isinstance(value, Tensor)
    }
    return f"{type(part).__name__}({','.join(f'{k}={v}' for k, v in settings.items())})"
