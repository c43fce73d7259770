"""The peak of memory is a run's own, on whatever system it is measured."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lookalike import memory
from lookalike.memory import SWITCH, keep_freed_memory, peak_memory, watch_peak


def test_the_peak_rises_with_what_is_held_and_is_forgotten() -> None:
    watch_peak()
    before = peak_memory()["memory"]
    held = bytearray(b"x") * (600 * 2**20)
    assert before + 590 <= peak_memory()["memory"] <= before + 700
    del held
    assert peak_memory()["memory"] >= before + 590
    watch_peak()
    assert peak_memory()["memory"] < before + 100


def test_systems_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "nowhere")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3 * 2**20))
    watch_peak()
    monkeypatch.setattr(sys, "platform", "freebsd")
    assert peak_memory() == {"memory": 3 * 2**10}  # in kibibytes
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory() == {"memory": 3}  # in bytes
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory() == {}


def faults(environment: dict[str, str]) -> int:
    """Page faults of a program that makes and frees a large tensor many times."""
    code = (
        "import torch, resource\n"
        "from lookalike.memory import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "for _ in range(10): torch.empty(2**24).fill_(1)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): torch.empty(2**24).fill_(1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUN"))}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, check=True
    )
    return int(shown.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not platform.libc_ver()[0], reason="needs glibc")
def test_freed_memory_is_used_again_unless_it_is_switched_off() -> None:
    mapped_anew = faults({SWITCH: "0"})
    assert mapped_anew > 1000
    assert faults({}) < mapped_anew / 20


def test_a_user_s_own_tuning_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not keep_freed_memory()
    watch_peak()
