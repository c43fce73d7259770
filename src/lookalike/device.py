"""The machine at hand: its name, and the number format and reading processes that suit it."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from lookalike.compatibility import cpu_multiplies_bfloat16
from lookalike.errors import InputError

CPU = torch.device("cpu")
MOST_WORKERS = 8  # more wait for each other: one reads thousands of images a second


def best_precision(accelerator: str = "auto") -> str:
    """Lightning's name for the fastest number format that trains as well as float32.

    bfloat16 where the processor multiplies it natively, float16 with scaled gradients on older
    GPUs, float32 elsewhere.

    Args:
        accelerator: the Trainer's, such as "auto", "cpu" or "gpu".
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    on_cpu = accelerator == "cpu" or not torch.backends.mps.is_available()
    return "bf16-mixed" if on_cpu and cpu_multiplies_bfloat16() else "32-true"


def find_device(name: str = "auto") -> torch.device:
    """The device of that name, such as "cpu", "cuda", "cuda:1" or "mps"; "auto" takes a GPU if any.

    Raises:
        InputError: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device={name} can't be used ({reason}). Set device=cpu or auto."
        ) from None
    return device


def check_gpus(accelerator: str, devices: Any) -> None:
    """Compare what a Trainer asks for with the GPUs of this machine, before work begins.

    Args:
        accelerator: the Trainer's, such as "auto", "cpu" or "gpu".
        devices: the Trainer's: a number of devices, a list of them, or a text.

    Raises:
        InputError: there is no GPU, or there are fewer.
    """
    if accelerator not in ("gpu", "cuda"):
        return
    there = torch.cuda.device_count()
    if not there and accelerator == "gpu" and torch.backends.mps.is_available():
        return
    if not there:
        raise InputError(
            f"trainer.accelerator={accelerator}: torch sees no GPU here. Set trainer=auto, which "
            "takes one where there is one, or trainer=cpu."
        )
    if isinstance(devices, int) and devices > there:
        raise InputError(
            f"trainer.devices={devices}: torch sees {there} GPUs here. Set trainer.devices=auto "
            "for all of them."
        )


def usable_workers() -> int:
    """One for each core that this process may use, but not more than can be fed."""
    return min(_usable_cores(), MOST_WORKERS)


def machine() -> str:
    """Processor, cores that this process may use, and accelerator if there is one."""
    text = f"{_processor()}, {_usable_cores()} cores"
    return f"{text}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else text


def _usable_cores() -> int:
    where_linux = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if where_linux else os.cpu_count() or 1


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
