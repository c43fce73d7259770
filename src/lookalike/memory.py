"""The most memory that a run held, though the process may have done others before."""

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
FORGET_PEAK = "5"  # what clear_refs takes, see proc(5)


def watch_peak() -> None:
    """Begin anew: what earlier work of this process held and gave back does not count.

    On systems other than Linux the peak is that of the process's whole life.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)  # what was freed, but kept for later use
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(FORGET_PEAK)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """The most that this process held since `watch_peak`, MiB.

    "memory" where the system tells it, "gpu_memory" where a GPU was used. Workers that read images
    are processes of their own.
    """
    peak = {}
    if (held := _peak_of_process()) is not None:
        peak["memory"] = held
    if torch.cuda.is_initialized():
        peak["gpu_memory"] = torch.cuda.max_memory_allocated() // 2**20
    return peak


def _peak_of_process() -> int | None:
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 2**10
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (2**20 if sys.platform == "darwin" else 2**10)
