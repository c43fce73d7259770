"""Engines: which of them lists the candidates of a search, and on which device.

All lead to the same ranking to the last digit; they differ in time and memory only.
"""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.compatibility import cpu_multiplies_bfloat16
from lookalike.device import CPU
from lookalike.distributed import world_size
from lookalike.errors import InputError, did_you_mean
from lookalike.retrieval.bounded import LARGEST, Bounded
from lookalike.retrieval.candidates import Engine
from lookalike.retrieval.faiss_flat import FaissFlat, gpus_of_faiss

log = logging.getLogger(__name__)

Name = Literal["auto", "faiss", "bounded"]
# of a gallery, items x dimensions from which rounding pays off; measured by speed/evaluation.py
WORTH_ROUNDING = 4_000_000


@dataclass(frozen=True)
class Engines:
    """The choice of an engine.

    name: "faiss"; "bounded", products of rounded vectors; "auto" takes what is faster.
    device: where products are computed; other devices than the CPU and CUDA leave it to the CPU.

    Raises:
        InputError: there is no engine of that name.
    """

    name: Name = "auto"
    device: torch.device = CPU

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise InputError(
                f"evaluation.engine={self.name} is unknown; there are {', '.join(get_args(Name))}."
                f"{did_you_mean(self.name, get_args(Name))}"
            )
        if self.device.type not in ("cpu", "cuda"):
            object.__setattr__(self, "device", CPU)

    def of(self, gallery: NDArray[np.float32]) -> Engine:
        """The engine that searches a gallery (G, D) by inner product; the log tells why."""
        name, reason = (self.name, "asked for") if self.name != "auto" else self._choice(gallery)
        if len(gallery) > LARGEST:
            name, reason = "faiss", f"more than {LARGEST:,} images"
        gpus = self._gpus() if name == "faiss" else []
        where = "cpu" if name == "faiss" and not gpus else self.device
        _say(f"Nearest images: evaluation.engine={name} on {where} ({reason})")
        return FaissFlat(gallery, gpus=gpus) if name == "faiss" else Bounded(gallery, self.device)

    def say_whole(self) -> None:
        """The log tells that no engine lists candidates where whole rankings are asked for."""
        _say(f"Scores of whole rankings: counted from float32 products on {self.device}")

    def _choice(self, gallery: NDArray[np.float32]) -> tuple[Name, str]:
        if self.device.type == "cuda":
            if gpus_of_faiss():
                return "faiss", "FAISS sees the GPU"
            return "bounded", "FAISS was installed without GPU support"
        if not cpu_multiplies_bfloat16():
            return "faiss", "the processor does not multiply bfloat16"
        if gallery.size < WORTH_ROUNDING:
            return "faiss", "a small gallery"
        return "bounded", "a large gallery"

    def _gpus(self) -> list[int]:
        """That of this process, or all if it is the only one; none where FAISS sees none."""
        if self.device.type != "cuda" or not gpus_of_faiss():
            return []
        if self.device.index is not None:
            return [self.device.index]
        if world_size() > 1:
            return [torch.cuda.current_device()]
        return list(range(gpus_of_faiss()))


@lru_cache
def _say(message: str) -> None:
    """Once, not after every epoch."""
    log.info(message)
