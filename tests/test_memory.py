"""The peak of memory is a run's own, on whatever system it is measured."""

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lookalike import memory
from lookalike.memory import peak_memory, watch_peak


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
