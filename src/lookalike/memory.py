"""How the process holds memory: what is freed is kept for reuse, and a run's peak is its own."""

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SWITCH = "LOOKALIKE_KEEP_MEMORY"  # 0 leaves the C library as it is
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)
KEPT = 2**31 - 1  # bytes at the end of the heap that are not given back
PROCESS = Path("/proc/self")
FORGET_PEAK = "5"  # what clear_refs takes, see proc(5)


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, for this process and those that it forks.

    glibc maps every large tensor anew and unmaps it when it is freed, so that the kernel clears the
    same pages again and again: half the time of measuring a network on a CPU. Other C libraries
    are left as they are, as is one that the user has tuned (MALLOC_..., GLIBC_TUNABLES).

    Returns:
        Whether it was done.
    """
    tuned = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if tuned or os.environ.get(SWITCH) == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc; Windows has no CDLL(None)
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, KEPT))


def watch_peak() -> None:
    """Begin anew: what earlier work of this process held and gave back does not count.

    On systems other than Linux the peak is that of the process's whole life.
    """
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)  # what was freed, but kept for later use
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(FORGET_PEAK)
    if (gpu := _gpu_in_use()) is not None:
        gpu.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """The most that this process held since `watch_peak`, MiB.

    "memory" where the system tells it, "gpu_memory" where a GPU was used. Workers that read images
    are processes of their own.
    """
    peak = {}
    if (held := _peak_of_process()) is not None:
        peak["memory"] = held
    if (gpu := _gpu_in_use()) is not None:
        peak["gpu_memory"] = gpu.max_memory_allocated() // 2**20
    return peak


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, on the CPU or on a GPU."""
    said = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and (
        "allocate memory" in said or "out of memory" in said or "not enough memory" in said
    )


def _gpu_in_use() -> Any:
    """torch.cuda, where this process has used a GPU; torch is not imported for the question."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


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
