"""What suits a device is picked by what the hardware can do."""

import os

import pytest
import torch

from lookalike.device import best_precision, check_gpus, usable_workers
from lookalike.errors import InputError


@pytest.mark.parametrize(
    ("cuda", "bf16_on_gpu", "mps", "bf16_on_cpu", "accelerator", "expected"),
    [
        (True, True, False, False, "auto", "bf16-mixed"),
        (True, False, False, True, "auto", "16-mixed"),  # Turing and older
        (True, False, False, True, "cpu", "bf16-mixed"),
        (True, True, False, False, "cpu", "32-true"),
        (False, False, False, True, "auto", "bf16-mixed"),
        (False, False, False, False, "auto", "32-true"),
        (False, False, True, True, "auto", "32-true"),  # Apple's GPU
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch,
    cuda: bool,
    bf16_on_gpu: bool,
    mps: bool,
    bf16_on_cpu: bool,
    accelerator: str,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16_on_gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16_on_cpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert best_precision(accelerator) == expected


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (64, 8)])
def test_workers(monkeypatch: pytest.MonkeyPatch, cores: int, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert usable_workers() == expected


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus", "mps", "advice"),
    [
        ("gpu", 1, 0, False, "trainer=auto"),
        ("cuda", "auto", 0, True, "trainer=auto"),
        ("gpu", 4, 2, False, "trainer.devices=auto"),
        ("gpu", 1, 0, True, None),
        ("gpu", -1, 2, False, None),
        ("gpu", [0, 1], 2, False, None),
        ("cpu", 4, 0, False, None),
    ],
)
def test_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
    accelerator: str,
    devices: object,
    gpus: int,
    mps: bool,
    advice: str | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if advice is None:
        check_gpus(accelerator, devices)
        return
    with pytest.raises(InputError, match=advice):
        check_gpus(accelerator, devices)
