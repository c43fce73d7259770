"""Every choice stands beside every experiment, and every command that is written down composes."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lookalike.commands.quoting import with_texts
from lookalike.commands.verb import only_what_is_swept
from lookalike.config import check_arguments, config_folder, gather_overrides, words

CHECKOUT = Path(__file__).resolve().parents[1]
VERBS = (
    "benchmark", "classify", "duplicates", "embed", "evaluate", "export", "index", "prepare",
    "report", "search", "serve", "share", "train", "tune",
)  # fmt: skip
ACTION = r"(?:(?<=index) (?:build|add|remove|update|info|check|tune)\b)?"  # of `lookalike index`
COMMAND = re.compile(rf"lookalike ({'|'.join(VERBS)})\b{ACTION}((?:\\\n#?|[^`\n])*)")
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


def texts() -> Iterator[Path]:
    yield CHECKOUT / "README.md"
    yield CHECKOUT / "CONTRIBUTING.md"
    yield from sorted((CHECKOUT / "docs").rglob("*.md"))
    yield from sorted(config_folder().rglob("*.yaml"))
    yield from sorted((CHECKOUT / "src").rglob("*.py"))


def commands() -> list[tuple[str, str, str]]:
    """Where, verb and arguments of every command with arguments in texts and headers."""
    return [
        (
            f"{file.relative_to(CHECKOUT)}:{text[: found.start()].count(chr(10)) + 1}",
            *found.groups(),
        )
        for file in texts()
        for text in [file.read_text(encoding="utf-8")]
        for found in COMMAND.finditer(text)
        if "=" in found[2] and "my_package" not in found[2]  # test_own_parts runs these
    ]


def arguments(written: str) -> list[str]:
    """The overrides of a command; what stands for something else is filled in."""
    line = re.sub(r"\\\n#?", " ", written)
    line = re.sub(
        r"\[([a-z]+[.=][^\[\]]*(?:\[[^\[\]]*\])?)\]", r"\1", line
    )  # [status=true]: may be left out
    line = line.replace("[overrides of", "").replace("<file>", "FILE").replace("<run>", "RUN")
    line = line.replace("{folder}", "RUN").replace("data=...", "data=drawn")
    line = (
        line.replace("rerank=...", "rerank=none")
        .replace("[...]", "[A]")
        .replace(",...]", "]")
        .replace("=...", "=A")
    )
    line = re.sub(r"(?<=\S) # .*|\s{2,}#.*", "", line)
    words = line.split()
    for ends in ("),.;", "\"'),.;"):  # a quote at the end may be that of a text around the command
        with suppress(ValueError):
            words = shlex.split(line.rstrip(ends), comments=True)
            break
    taken = []
    for word in words:
        if not re.match(r"[-+~]|[\w./@]+=", word):
            break
        taken.append(with_texts(word.rstrip(",;.)")))
    return taken


def marked(where: str) -> dict[str, Any]:
    """Those of docs/pml.md choose one part each, with which test_configs trains a step."""
    return {"id": where, "marks": [pytest.mark.slow] if "pml.md" in where else []}


def test_there_are_commands() -> None:
    found = [command for command in commands() if arguments(command[2])]
    assert len(found) > 150
    assert {verb for _, verb, _ in found} == set(VERBS)


def different() -> list[tuple[str, str, str]]:
    """Each command once, wherever it is written; those of docs/pml.md only if nowhere else."""
    found = sorted(commands(), key=lambda command: "pml.md" in command[0])
    first = {
        (verb, *arguments(written)): (where, verb, written) for where, verb, written in found[::-1]
    }
    return list(first.values())[::-1]


@pytest.mark.parametrize(
    ("where", "verb", "written"), [pytest.param(*each, **marked(each[0])) for each in different()]
)
def test_a_command_that_is_written_down_composes(
    where: str, verb: str, written: str, tmp_path: Path
) -> None:
    given = [each for each in arguments(written) if not each.startswith(("-m", "--help", "hydra"))]
    if any(each.startswith("--config-dir") for each in given):
        return  # it needs files of the reader's; test_own_parts runs one
    parser = OverridesParser.create()
    for each in given:
        override = parser.parse_override(each)
        values = override.sweep_string_iterator() if override.is_sweep_override() else [None]
        for value in values:
            one = each if value is None else f"{override.get_key_element()}={value}"
            others = [other for other in given if other != each and "," not in other.split("[")[0]]
            check(verb, [*others, one])


def check(verb: str, overrides: list[str]) -> None:
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra.compose(verb, gather_overrides(verb, overrides))
        if verb in ("benchmark", "tune"):
            group = config[verb]
            config = hydra.compose("train", [*group.every, *config.more])
    check_arguments(config)


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


# a few drawn images and a small network: what is run is the command, not its scores
QUICK = (
    "data.source.species=16", "data.source.images_per_species=8", "data.source.size=40",
    "backbone.image_size=32", "data.batch_size=16", "data.num_workers=0", "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
)  # fmt: skip


def readme_commands() -> list[str]:
    """Those of README and of the page on parts that train on the default data."""
    pages = (CHECKOUT / "README.md", CHECKOUT / "docs" / "parts.md")
    text = "\n".join(page.read_text() for page in pages)
    lines = re.findall(r"^\$ (lookalike train .*)$", text, re.M)
    other = ("data=", "resume=", "--config-dir", "--help", "experiment=", "sweep=")
    return [line.split("  ")[0] for line in lines if not any(word in line for word in other)]


def test_there_are_commands_to_run() -> None:
    assert len(readme_commands()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("command", readme_commands())
def test_a_command_of_the_readme_runs(command: str, tmp_path: Path) -> None:
    words = [word for word in shlex.split(command)[1:] if word != "trainer=gpu"]
    done = subprocess.run(
        [sys.executable, "-m", "lookalike", *words, *QUICK],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "WANDB_MODE": "offline"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("outputs/train/**/metrics.json"))
