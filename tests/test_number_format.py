"""The number format that is recorded is the one that computed, whatever was asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Compose
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.training.experiment import Experiment

REPLACED = "ignore:You passed .Trainer.accelerator='cpu', precision='16-mixed'"
DISCOURAGED = "ignore:.precision=bf16. is supported for historical reasons"
ASKED = (
    ("32-true", "32-true", torch.float32),
    ("bf16-mixed", "bf16-mixed", torch.bfloat16),
    ("bf16", "bf16-mixed", torch.bfloat16),
    ("16-mixed", "bf16-mixed", torch.bfloat16),  # no CPU has it
)


@pytest.mark.filterwarnings(REPLACED, DISCOURAGED)
@pytest.mark.parametrize(("asked", "used", "dtype"), ASKED)
def test_what_is_recorded_is_what_computed(
    asked: str, used: str, dtype: torch.dtype, tiny: tuple[str, ...], compose: Compose,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = compose(
        "train", *tiny, f"trainer.precision={asked}", "data.sampler.batches_per_epoch=1"
    )
    experiment = Experiment(config, tmp_path / "run")
    seen: list[torch.dtype] = []
    linear = next(m for m in experiment.learner.embedder.backbone.modules() if _has_weight(m))
    linear.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    kept = experiment.fit()
    assert seen[0] == dtype
    assert f", {used}, " in experiment.setting()
    assert read_checkpoint(kept.file).config["trainer"]["precision"] == used


def _has_weight(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Conv2d | torch.nn.Linear)


def test_an_automatic_format_is_named_in_the_metrics(
    cli: Callable[..., Any], tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.device.cpu_multiplies_bfloat16", lambda: True)
    cli("train", *tiny, "trainer.precision=auto", "evaluation.before_training=false",
        "hydra.run.dir=run")  # fmt: skip
    assert ", bf16-mixed, " in json.loads(Path("run", "metrics.json").read_text())["setting"]
