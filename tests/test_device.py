"""What suits a device is picked by what the hardware can do."""

import os

import pytest
import torch

from lookalike.device import best_precision, usable_workers


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
