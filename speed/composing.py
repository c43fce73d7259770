"""The configuration of `lookalike train` without its command line."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from lookalike.config import config_folder


def train_config(folder: str | Path, *overrides: str) -> DictConfig:
    """Of a run without a progress bar that writes into `folder`."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose(
            "train", [f"paths.run={folder}", "name=benchmark", "callbacks=none", *overrides]
        )
