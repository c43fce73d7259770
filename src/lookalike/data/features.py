"""The feature cache: what a frozen backbone makes of every image, computed once.

A folder holds `views.npy`, memory-mapped: (V, N, width) float32, the features of V views of every
record; rows of records that were not asked for are zero.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lookalike.data.images import Batch
from lookalike.data.made_once import made_once


class Features:
    """Features by record id, (width,) float32; each time of a random one of V views.

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


def kept_features(
    folder: str | Path,
    key: str,
    compute: Callable[[Tensor], Tensor],
    passes: Sequence[DataLoader[Batch]],
    shape: tuple[int, int],
) -> Features:
    """The features of some passes over the images, from below `folder`; computed if need be.

    Args:
        key: of all that the features depend on; the folder's name.
        compute: images (B, 3, H, W) uint8 -> features (B, width).
        passes: over the images, one for each view.
        shape: N, the number of records, and the width.
    """

    def make(empty: Path) -> None:
        views = open_memmap(empty / "views.npy", "w+", np.float32, (len(passes), *shape))
        for view, batches in zip(views, passes, strict=True):
            for images, _, ids in track(
                batches, "Features of the frozen backbone", len(batches), transient=True
            ):
                view[ids.numpy()] = compute(images).float().cpu().numpy()
        views.flush()

    def read(made: Path) -> Features:
        # copy on write: torch wants writable memory, the file stays as it is
        views = np.load(made / "views.npy", mmap_mode="c")
        if views.shape != (len(passes), *shape):
            raise ValueError(f"holds {views.shape}, expected {(len(passes), *shape)}")
        return Features(views.view(np.ndarray))

    return made_once(Path(folder) / f"features-{key}", torch.inference_mode()(make), read)


def weights_digest(*modules: nn.Module) -> str:
    """Of all parameters and buffers, and of the structure that uses them."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(repr(module).encode())
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
