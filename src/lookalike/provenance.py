"""What stands beside a number: the versions, the commit and the machine that made it."""

import subprocess
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from lookalike.device import machine

PACKAGES = (
    "lookalike",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "pytorch-metric-learning",
    "hydra-core",
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "numpy",
)


def provenance() -> dict[str, object]:
    """`hardware`, `versions` and `git_commit`, as they are written into metrics.json."""
    return {"hardware": machine(), "versions": versions(), "git_commit": git_commit()}


def versions() -> dict[str, str]:
    """Installed versions by name, of the packages that a score may depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of a network's parameters and buffers: names, shapes and values."""
    digest = sha256()
    for name, value in sorted(state.items()):
        exact = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(exact.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def git_commit() -> str | None:
    """The commit of the current folder, with "-dirty" behind it where tracked files have changed.

    None where there is no git, no repository, or no commit in it yet.
    """
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
