"""Help: pages of verbs and groups, choices with their values, completion, hints."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from lookalike.__main__ import VERBS
from lookalike.commands.choices import choices_of, groups_of, keys_of
from lookalike.commands.completion import SCRIPTS, main, words
from lookalike.commands.help import WIDTH, group_page, show_help, verb_page
from lookalike.commands.show import show
from lookalike.config import compose
from lookalike.config_folder import config_folder
from lookalike.errors import InputError

CONF = config_folder()
GROUPS = sorted(each.name for each in CONF.iterdir() if each.is_dir())
CHOICES = [
    (group, choice)
    for group in GROUPS
    if group not in ("base", "hydra", "paths")
    for choice in choices_of(CONF, group)
]


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_of_a_verb(verb: str) -> None:
    page = verb_page(CONF, verb, VERBS[verb])
    lines = page.splitlines()
    assert len(lines) <= 40
    beside_examples = [line for line in lines if not line.startswith(f"  lookalike {verb} ")]
    assert max(map(len, beside_examples)) <= WIDTH
    assert len(beside_examples) < len(lines)
    chosen = {"benchmark": ["benchmark=smoke"], "tune": ["tune=triplet"]}
    composed = compose(verb, chosen.get(verb, []))
    for key in keys_of(CONF / f"{verb}.yaml"):
        assert OmegaConf.select(composed, key.name, default="missing") != "missing", key.name
        assert f"{key.name}=" in page or "more, see --cfg" in page
    for group in groups_of(CONF / f"{verb}.yaml"):
        assert f"  {group}=" in page


def test_the_page_of_a_group() -> None:
    lines = group_page(CONF, "train", "loss").splitlines()
    assert lines[0] == "loss=... (default: multi_similarity)"
    listed = [line.split()[0] for line in lines[1:-2]]
    assert listed == sorted(file.stem for file in (CONF / "loss").glob("*.yaml"))
    assert "  circle " in "\n".join(lines)
    assert "arXiv:2002.10857" in "\n".join(lines)
    with pytest.raises(InputError, match=r"no group 'los'.*Did you mean loss"):
        group_page(CONF, "train", "los")


def test_the_text_of_a_key_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    show_help(CONF, "search", VERBS["search"], ["gallery", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("gallery=null\n")
    assert " ".join(told.split()).endswith("null: the checkpoint's data set")


def test_every_choice_says_what_it_is() -> None:
    assert len(CHOICES) > 200
    for group, choice in CHOICES:
        assert choices_of(CONF, group)[choice], (group, choice)


def test_a_choice_is_shown_with_its_values_and_comments() -> None:
    shown = show(["loss=arcface"])
    values: Any = yaml.safe_load(shown)
    expected: Any = OmegaConf.to_container(compose("train", ["loss=arcface"]).loss)
    assert values["loss"].keys() == expected.keys()
    assert shown.startswith("# ArcFace. Deng et al., CVPR 2019")
    assert "embedding_size: 64" in show(["loss=arcface", "embedding_size=64"])
    assert "# in a batch" not in shown
    assert "lookalike benchmark" in show(["experiment=flowers_losses"])  # whole, with its commands


def test_included_keys_keep_their_comments() -> None:
    shown = show(["data=flowers"])
    assert "classes: null  # names of the classes to use" in shown  # of conf/base/data.yaml
    assert "protocol: zero_shot" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a choice of a group"),
        (["loss"], "give a choice of a group"),
        (["loss=tripplet"], r"no loss=tripplet\. Did you mean triplet"),
        (["lss=triplet"], r"no group 'lss'\. Did you mean loss"),
    ],
)
def test_what_can_t_be_shown(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        show(arguments)


@pytest.mark.parametrize(("group", "choice"), CHOICES[:: max(1, len(CHOICES) // 12)])
def test_any_choice_can_be_shown(group: str, choice: str) -> None:
    assert yaml.safe_load(show([f"{group}={choice}"])) is not None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lookalike tr", ["train"]),
        ("lookalike train loss=tripl", ["loss=triplet"]),
        ("lookalike train -m loss=triplet,circ", ["loss=triplet,circle"]),
        ("lookalike train back", ["backbone="]),
        ("lookalike train checkpoint.", ["checkpoint.every_minutes=", "checkpoint.optimizer="]),
        ("lookalike evaluate rerank=k", ["rerank=k_reciprocal"]),
        ("lookalike nothing los", []),
        ("lookalike show lo", []),
    ],
)
def test_tab_completes(line: str, expected: list[str]) -> None:
    assert words(CONF, VERBS, line) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    """bash runs it as it would at Tab; of zsh, which few machines have, the text is compared."""
    if shell == "zsh":
        assert SCRIPTS["zsh"].splitlines()[1:] == SCRIPTS["bash"].splitlines()[1:]
        return
    program = tmp_path / "lookalike"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lookalike "$@"\n')
    program.chmod(0o755)
    code = (
        f'PATH={tmp_path}:$PATH\neval "$(lookalike completion bash)"\n'
        'COMP_LINE="lookalike train loss=tripl" COMP_POINT=26\n_lookalike\necho "${COMPREPLY[@]}"\n'
    )
    shown = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert shown.stdout == "loss=triplet\n", shown.stderr


def test_completion_prints_a_script_or_words_or_says_what_it_needs(capsys: Any) -> None:
    main(CONF, VERBS, ["zsh"])
    assert capsys.readouterr().out == SCRIPTS["zsh"]
    main(CONF, VERBS, ["words", "lookalike tra"])
    assert capsys.readouterr().out.split() == ["train"]
    for wrong in ([], ["fish"], ["words"]):
        with pytest.raises(SystemExit) as exit_:
            main(CONF, VERBS, wrong)
        assert exit_.value.code == 2
        assert "name your shell, bash or zsh" in capsys.readouterr().err


def test_help_and_completion_import_nothing_heavy() -> None:
    code = (
        "import sys, lookalike.commands.help, lookalike.commands.completion, lookalike.__main__\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("loss=tripplet", "there is no loss=tripplet. Did you mean triplet"),
        ("lss=triplet", "there is no 'lss' in the configuration. Did you mean loss?"),
    ],
)
def test_a_misspelt_override_is_one_line(
    cli: Callable[..., Any], wrong: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli("train", wrong)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
