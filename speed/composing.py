"""The configuration of `lookalike train` without its command line."""

from pathlib import Path

from omegaconf import DictConfig

from lookalike.config import compose


def train_config(folder: str | Path, *overrides: str) -> DictConfig:
    """Of a run without a progress bar that writes into `folder`."""
    own = [f"hydra.run.dir='{folder}'", "name=benchmark", "callbacks=none"]
    return compose("train", [*own, *overrides])
