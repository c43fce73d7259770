"""What many tests need: tiny data sets, a composed configuration, the real images."""

import gc
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from PIL import Image

from lookalike.commands.verb import LIGHTNING_REMARKS, run_verb
from lookalike.config import config_folder

CHECKOUT = Path(__file__).resolve().parents[1]
os.environ["WANDB_CONSOLE"] = "off"  # its redirection of stderr outlives the run
os.environ["PATH"] = (
    f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for told commands
)


def pytest_collection_finish() -> None:
    """To look for garbage took a fifth of the time: what is imported is none."""
    gc.freeze()
    gc.set_threshold(100_000)  # new objects, instead of 700


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # or packages would tell of theirs as leaked


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with flowers-102/, stanford_dogs/ and furniture/."""
    given = os.environ.get("LOOKALIKE_DATA")
    candidates = [Path(given)] if given else []
    folder = next(
        (f for f in [*candidates, CHECKOUT.parent / "shared" / "data"] if f.is_dir()), None
    )
    if folder is None:
        pytest.skip("no real images: set LOOKALIKE_DATA")
    return folder


@pytest.fixture(scope="session")
def real_weights(real_data: Path) -> Path:
    """MobileNetV2's ImageNet weights in torchvision's key names."""
    file = real_data.parent / "weights" / "mobilenet_v2_imagenet_features_torchvision_keys.pth"
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    return file


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 classes x 6 images of 40 x 48 pixels; a class is a colour, seen in changing light."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(16):
        folder = root / f"class{number:02d}"
        folder.mkdir()
        colour = rng.integers(0, 256, 3)
        for image in range(6):
            light = rng.normal(0, 25, 3) + rng.normal(0, 40, (40, 48, 3))
            pixels = (colour + light).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{image}.png")
    return root


@pytest.fixture
def photos(class_folders: Path, tmp_path: Path) -> Path:
    """A copy of the class folders, to be changed."""
    return shutil.copytree(class_folders, tmp_path / "photos")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """An empty folder, and the address at which a local server gives out its files."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


Compose = Callable[..., DictConfig]


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """compose("train", "loss=triplet") -> the configuration of that command, run in tmp_path."""

    def compose_(verb: str, *overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = hydra.compose(
                verb, [*overrides, f"hydra.runtime.output_dir={tmp_path}"], return_hydra_config=True
            )
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config

    return compose_


TINY = (
    f"hydra.searchpath=[file://{CHECKOUT / 'tests' / 'conf'}]",
    "backbone=tiny",
    "embedding_size=8",
    "data.batch_size=8",
    "data.num_workers=0",
    "images_per_class=2",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "callbacks=none",
)


@pytest.fixture
def tiny(class_folders: Path) -> tuple[str, ...]:
    """Overrides for `train`: a tiny network on the 16 class folders, one epoch in a second."""
    return (*TINY, "data=folder", f"data.root={class_folders}")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """cli("train", "loss=triplet") runs the verb in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *overrides: str) -> Any:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [f"lookalike {verb}", *overrides])
        task = getattr(importlib.import_module(f"lookalike.commands.{verb}"), verb)
        returned = []  # Hydra hands returns to sweepers only
        run_verb(verb, lambda config: returned.append(task(config)))
        return returned[0]

    yield run
    for handler in logging.getLogger().handlers[:]:  # Hydra closes it in its next run only
        if isinstance(handler, logging.FileHandler):
            logging.getLogger().removeHandler(handler)
            handler.close()


def pytest_configure(config: pytest.Config) -> None:
    for message in LIGHTNING_REMARKS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU"))
