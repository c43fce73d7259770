"""Every choice stands beside every experiment; a group that is null is none; names of sweeps."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from lookalike.commands.verb import only_what_is_swept
from lookalike.config import check_arguments, config_folder, gather_overrides, words

EXPERIMENTS = sorted(file.stem for file in (config_folder() / "experiment").glob("*.yaml"))
# groups whose node is one choice alone; what an experiment says of it must not reach another choice
OWN = {
    "loss": "loss",
    "sampler": "data.sampler",
    "transform": "data.transform",
    "head": "head",
    "freeze": "freeze",
    "callbacks": "callbacks",
}
SHARED = ("backbone", "evaluation", "trainer", "miner")  # their choices have the same keys


def compose(*overrides: str) -> Any:
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def node(config: Any, group: str) -> Any:
    return OmegaConf.to_container(OmegaConf.select(config, OWN[group]))


@cache
def plain(group: str, choice: str) -> Any:
    return node(compose("data=flowers", f"{group}={choice}"), group)


def choices(group: str) -> list[str]:
    """Without those that must be told what they are, such as backbone=own."""
    files = (config_folder() / group).glob("*.yaml")
    return sorted(file.stem for file in files if "_target_: ???" not in file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_leaves_other_choices_as_they_are(experiment: str) -> None:
    alone = compose(f"experiment={experiment}")
    for group in OWN:
        for choice in choices(group):
            with_it = compose(f"experiment={experiment}", f"{group}={choice}")
            check_arguments(with_it)
            if node(with_it, group) != node(alone, group):
                assert node(with_it, group) == plain(group, choice), (group, choice)
    for group in SHARED:
        for choice in choices(group):
            check_arguments(compose(f"experiment={experiment}", f"{group}={choice}"))


@pytest.mark.parametrize(
    "overrides",
    [
        "experiment=flowers_mobilenet_v2 sampler=uniform",
        "experiment=flowers_mobilenet_v2 loss=contrastive",
        "experiment=furniture_transfer head=linear",
        "experiment=furniture_transfer transform=none",
        "experiment=reid_softmax_triplet loss=triplet",
        "experiment=reality_check sampler=uniform",
        "experiment=reality_check transform=none callbacks=none",
        "optimizer=sgd scheduler=step",
        "scheduler=constant",
        "transform=none",
        "sampler=uniform",
        "sampler=triplets miner=in_triplets",
    ],
)
def test_other_choices_beside_a_default_or_an_experiment(overrides: str) -> None:
    check_arguments(compose(*overrides.split()))


def test_freezing_all_beside_an_experiment_freezes_all() -> None:
    """It froze the first blocks alone, as the experiment's own choice does."""
    assert compose("experiment=flowers_losses", "freeze=all").freeze.below is None


def test_a_key_of_an_experiment_of_ones_own_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\ndefaults:\n  - override /loss: triplet\nloss:\n  margin: 0.3\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(own)
    given = (f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine", "loss=circle")
    with pytest.raises(Exception, match=r"takes no 'margin'.*remove it: ~<group>\.margin"):
        check_arguments(compose(*given))
    check_arguments(compose(*given, "~loss.margin"))


GROUPS = sorted({file.parent.name for file in config_folder().glob("*/none.yaml")})


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_is_set_to_null_is_none(group: str) -> None:
    assert gather_overrides("train", [f"{group}=null"]) == [f"{group}=none"]
    assert gather_overrides("train", [f"{group}=null,x"]) == [f"{group}=none,x"]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        hydra.compose("train", gather_overrides("train", [f"{group}=null"]))


def test_null_is_left_to_keys_that_are_no_groups() -> None:
    given = ["threads=null", "backbone.weights=null", "evaluation.rerank=null", "loss=triplet"]
    assert gather_overrides("train", given) == given


def test_interpolations_in_overrides_of_a_benchmark_reach_its_runs() -> None:
    given = ["benchmark=smoke", "data.transform.train.size=${backbone.image_size}"]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra.compose("benchmark", gather_overrides("benchmark", given))
        assert list(config.more) == given[1:]
        run = hydra.compose("train", [*config.benchmark.every, *config.more])
    assert run.data.transform.train.size == 32


def test_shared_parts_are_no_choices() -> None:
    for group in ("data", "tune"):
        assert "settings" not in choices(group)


def test_a_sweep_names_its_folders_after_what_is_swept() -> None:
    def excluded(*arguments: str) -> list[str]:
        (override,) = only_what_is_swept(arguments)
        return re.findall(r"'([^']+)'", override)

    assert only_what_is_swept(["loss=triplet"]) == []
    always = ["seed", "data.fold", "logger"]
    assert excluded("-m", "loss=triplet,circle", "seed=0,1") == always
    assert excluded("--multirun", "loss=a,b", "data.root=/my/photos", "hydra.verbose=true") == [
        *always, "data.root",
    ]  # fmt: skip
    assert words("loss=triplet,data.root=/my/photos") == "loss-triplet-data.root-my-photos"
