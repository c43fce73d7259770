"""What is imported, and what is not: verbs that use a network start without Lightning."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import CHECKOUT

HEAVY = (
    "pytorch_lightning", "lightning_fabric", "torch._dynamo", "pytorch_metric_learning",
    "onnx", "onnxruntime", "openvino", "pandas",
)  # fmt: skip


def imported(code: str, folder: Path) -> set[str]:
    """Which of the heavy packages a fresh interpreter has after some code."""
    return imported_after([code], folder)[0]


def imported_after(steps: Sequence[str], folder: Path) -> list[set[str]]:
    """Which of the heavy packages one fresh interpreter has after each step."""
    telling = f"\nimport sys\nprint('HAVE', *(n for n in {HEAVY} if n in sys.modules))\n"
    code = "".join(step + telling for step in steps)
    shown = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    told = [line for line in shown.stdout.splitlines() if line.startswith("HAVE")]
    return [set(line.split()[1:]) for line in told]


@pytest.mark.slow
def test_loading_a_network_imports_no_lightning(tmp_path: Path) -> None:
    names = ("load_embedder", "load_classifier", "train")
    steps = [f"import lookalike; lookalike.{name}" for name in names]
    embedder, classifier, training = imported_after(steps, tmp_path)
    assert embedder == classifier == set()
    assert "pytorch_lightning" in training


@pytest.mark.slow
def test_verbs_that_use_a_network_import_no_lightning(
    cli: Callable[..., Any], tiny: tuple[str, ...], class_folders: Path, tmp_path: Path
) -> None:
    cli("train", *tiny, "loss=softmax", "miner=none",
        "evaluation.before_training=false", "hydra.run.dir=run")  # fmt: skip
    checkpoint = "checkpoint=run/checkpoints/best.ckpt"
    image = f"images={next(class_folders.glob('*/*.png'))}"
    commands = (
        ["classify", checkpoint, image, "num_workers=0"],
        ["search", checkpoint, image, f"gallery={class_folders}", "num_workers=0"],
        ["index", "build", f"images={class_folders}", checkpoint, "out=i", "num_workers=0"],
        ["search", "index=i", image, "num_workers=0"],
        ["evaluate", checkpoint],
        ["report", "runs=run", "embed=true"],
    )
    for command in commands:
        code = (
            f"import gc, sys; sys.argv[1:] = {command}\n"
            "from lookalike.__main__ import main; main()\n"
            "assert gc.isenabled()"
        )
        found = imported(code, tmp_path) - {"pytorch_metric_learning"}
        assert not (found if "index=i" in command else found - {"pandas"}), command


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "transforms.v2"])
def test_torchvision_is_whole_without_dynamo(name: str, tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "from lookalike.compatibility import torchvision_module\n"
        f"found = torchvision_module({name!r})\n"
        "assert found.__name__.startswith('torchvision')\n"
        "assert not hasattr(sys.modules.get('torch._dynamo'), 'disable')\n"
        "import torchvision, torchvision.tv_tensors\n"
        "box = torch.tensor([[0.0, 0, 4, 4]])\n"
        "assert torchvision.ops.roi_align(torch.rand(1, 3, 8, 8), [box], 2).shape == (1, 3, 2, 2)\n"
        "image = torchvision.tv_tensors.Image(torch.zeros(3, 8, 8))\n"
        "wrapped = torchvision.tv_tensors.wrap(torch.ones(3, 8, 8), like=image)\n"
        "assert type(wrapped) is torchvision.tv_tensors.Image\n"
        "import torch._dynamo\n"
        "again = torchvision.tv_tensors.wrap(torch.ones(3, 8, 8), like=image)\n"
        "assert type(again) is torchvision.tv_tensors.Image\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2\n"
    )
    assert "torch._dynamo" in imported(f"import sys\n{code}", tmp_path)


@pytest.mark.slow
def test_torchvision_that_asks_for_more_is_imported_plainly(tmp_path: Path) -> None:
    code = (
        "from lookalike import compatibility\n"
        "compatibility._is_compile_supported = None\n"
        "def nothing(*a, **k): raise TypeError('another version')\n"
        "compatibility._disable_later = nothing\n"
        "v2 = compatibility.torchvision_module('transforms.v2')\n"
        "import torch\n"
        "assert v2.Resize(4)(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape == (3, 4, 4)\n"
    )
    assert "torch._dynamo" in imported(code, tmp_path)


def test_imports_run_down(tmp_path: Path) -> None:
    """The linter keeps the layers, and an import that runs up breaks it."""
    import shutil

    shutil.copytree(CHECKOUT / "src", tmp_path / "src")
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    upward = tmp_path / "src" / "lookalike" / "models" / "upward.py"
    upward.write_text("import lookalike.training.run\n")
    shown = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 1
    assert "lookalike.models.upward -> lookalike.training.run" in shown.stdout
