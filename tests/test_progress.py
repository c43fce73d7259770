"""Bars are for people who look; a log gets none."""

import pytest
import rich

from lookalike.progress import progress_bar, track


def test_a_file_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rich.reconfigure(force_terminal=False)
    assert list(track(iter([3, 1, 2]), "Counting", total=3)) == [3, 1, 2]
    with progress_bar() as bar:
        bar.advance(bar.add_task("Counting", total=1))
    told = capsys.readouterr()
    assert told.out == told.err == ""


def test_a_terminal_gets_a_bar_that_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    rich.reconfigure(force_terminal=True)
    try:
        assert list(track([3, 1, 2], "Counting")) == [3, 1, 2]
        with progress_bar() as bar:
            bar.add_task("Weighing", total=1)
    finally:
        rich.reconfigure()
    told = capsys.readouterr().out
    assert "Counting" in told
    assert "Weighing" in told
