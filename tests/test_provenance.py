"""What stands beside a number, and that describing a run never ends it."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.provenance import git_commit, provenance, versions


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    run = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


def test_the_commit_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None  # no repository
    git(tmp_path, "init")
    assert git_commit() is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit() == commit
    (tmp_path / "new").write_text("not tracked")
    assert git_commit() == commit
    (tmp_path / "file").write_text("2")
    assert git_commit() == f"{commit}-dirty"


@pytest.mark.slow
@pytest.mark.parametrize("script", [None, "#!/bin/sh\nexit 127\n", "not a program"])
def test_a_machine_without_a_git_that_works(
    script: str | None,
    cli: Callable[..., Any],
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run is finished and its metrics are written all the same."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if script is not None:
        (programs / "git").write_text(script)
        (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert git_commit() is None
    cli("train", *tiny, "hydra.run.dir=run")
    written = json.loads(Path("run", "metrics.json").read_text())
    assert written["git_commit"] is None
    assert written["versions"] == versions()


def test_what_is_recorded() -> None:
    found = provenance()
    assert set(found) == {"hardware", "versions", "git_commit"}
    assert str(len(os.sched_getaffinity(0))) in str(found["hardware"])
    assert {"torch", "lookalike", "faiss-cpu"} <= set(versions())
