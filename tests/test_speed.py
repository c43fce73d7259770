"""The scripts of speed/: each can be imported, and each configuration of theirs composes."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig

from conftest import CHECKOUT
from lookalike.config import check_arguments

FOLDER = CHECKOUT / "speed"
SCRIPTS = sorted(file.stem for file in FOLDER.glob("*.py"))
RIVALS = (
    "cache_worker",
    "lance_worker",
    "oml_worker",
)  # run by another interpreter, with the rivals' packages

MEMORY = {"loss=cross_batch_memory": ["loss.memory_size=16"]}
Configurations = Callable[[ModuleType, Path], list[DictConfig]]
COMPOSED: dict[str, Configurations] = {
    "composing": lambda script, folder: [script.train_config(folder)],
    "embedding": lambda script, folder: [script.configuration(folder, "weights.pth")],
    "frozen": lambda script, folder: [
        script.configuration(folder, cache, 0, "weights.pth")
        for cache in (script.IMAGES, script.FEATURES)
    ],
    "gpu": lambda script, folder: [
        script.configuration(folder, network) for network in script.BACKBONES
    ],
    "input_accuracy": lambda script, folder: [
        script.configuration(folder, name, 0, "weights.pth")
        for name in (script.USUAL, script.FILES, script.DISK)
    ],
    "large_batches": lambda script, folder: [script.configuration(folder)],
    "losses": lambda script, folder: [
        script.configuration(choice, *MEMORY.get(choice, [])) for choice in script.every_choice()
    ],
    "memory": lambda script, folder: [script.configuration(folder)],
    "processes": lambda script, folder: [
        script.configuration(folder, "weights.pth", count) for count in (1, 2)
    ],
    "training": lambda script, folder: [
        script.settings(folder, network, weights)
        for network, weights in (("mobilenet_v2", "weights.pth"), ("resnet18", None))
    ],
    "training_accuracy": lambda script, folder: [
        script.settings(folder, script.NETWORK, "weights.pth", "seed=1")
    ],
}


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of that name, imported as it would be when it runs."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(request.param)


def test_every_script_is_known() -> None:
    composing = {
        name
        for name in SCRIPTS
        if "train_config" in (text := (FOLDER / f"{name}.py").read_text())
        or "import settings" in text
        or " settings, " in text
    }
    assert composing == set(COMPOSED)
    assert len(SCRIPTS) == 27


def _marked(script: str) -> object:
    return pytest.param(script, marks=pytest.mark.slow if script == "losses" else ())


@pytest.mark.parametrize("script", [_marked(s) for s in SCRIPTS if s not in RIVALS], indirect=True)
def test_a_script_is_imported_and_its_configurations_compose(
    script: ModuleType, tmp_path: Path
) -> None:
    makers = COMPOSED.get(script.__name__)
    for config in makers(script, tmp_path) if makers else []:
        check_arguments(config)
