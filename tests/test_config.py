"""compose(): a notebook gets the very configuration of the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import lookalike
from lookalike.config import compose, gather_overrides


def printed(folder: Path, verb: str, *overrides: str) -> str:
    """The configuration that a command line prints."""
    command = [sys.executable, "-m", "lookalike", verb, *overrides, "--cfg", "job", "--resolve"]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.parametrize(
    ("verb", "overrides"),
    [
        pytest.param(
            "train",
            ["loss=triplet", "seed=3", "trainer.max_epochs=2", "logger=wandb"],
            marks=pytest.mark.slow,
        ),
        pytest.param("evaluate", ["checkpoint=best.ckpt"], marks=pytest.mark.slow),
        pytest.param("benchmark", ["benchmark=smoke", "seed=1"], marks=pytest.mark.slow),
        pytest.param("tune", ["tune=triplet", "data.batch_size=32"], marks=pytest.mark.slow),
    ],
)
def test_the_same_configuration_as_on_the_command_line(
    verb: str, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = [f"hydra.run.dir={tmp_path}/run", f"hydra.runtime.output_dir={tmp_path}/run"]
    shown = OmegaConf.create(printed(tmp_path, verb, *overrides, *fixed))
    config = compose(verb, [*overrides, fixed[0]])
    OmegaConf.resolve(config)
    ours, theirs = (OmegaConf.to_container(each) for each in (config, shown))
    for each in (ours, theirs):  # the time of the start, and Hydra's own spelling of its mode
        for logger in each.get("logger", {}).values():
            logger.pop("launch")
    assert ours == theirs
    assert config.paths.run == str(tmp_path / "run")


def test_what_only_hydra_knows_is_filled_in_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = HydraConfig.instance().cfg
    config = lookalike.compose("train", ["data=flowers", "loss=circle", "seed=7"])
    assert config.name == "flowers_resnet18_circle_seed7"
    assert config.paths.run.startswith(str(tmp_path / "outputs" / "train"))
    assert config.paths.run.endswith(config.name)
    assert HydraConfig.instance().cfg is before
    assert not list(tmp_path.iterdir())
    config.data.num_classes = 11  # references inside the configuration are kept
    softmax = lookalike.compose("train", ["loss=softmax"])
    softmax.data.num_classes = 11
    assert softmax.loss.num_classes == 11


def test_a_notebook_trains(tiny: tuple[str, ...], tmp_path: Path) -> None:
    config = lookalike.compose("train", [*tiny, f"hydra.run.dir={tmp_path / 'run'}"])
    assert 0 <= lookalike.train(config) <= 1
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_overrides_of_train_are_gathered_for_verbs_that_start_runs() -> None:
    given = ["tune=triplet", "data=flowers", "-m", "+extra=1", "~callbacks.progress", "name=mine"]
    assert gather_overrides("tune", given) == [
        "more=['data=flowers','+extra=1','~callbacks.progress']", "tune=triplet", "-m", "name=mine",
    ]  # fmt: skip
    assert gather_overrides("train", given) == given
    assert gather_overrides("no_such_verb", given) == given
