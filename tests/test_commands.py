"""Every command that is written down composes, and those of the README run."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lookalike.commands.quoting import with_texts
from lookalike.config import check_arguments, config_folder, gather_overrides

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[1]
VERBS = (
    "benchmark", "classify", "duplicates", "embed", "evaluate", "export", "index", "prepare",
    "report", "search", "serve", "share", "train", "tune",
)  # fmt: skip
ACTION = r"(?:(?<=index) (?:build|add|remove|update|info|check|tune)\b)?"  # of `lookalike index`
COMMAND = re.compile(rf"lookalike ({'|'.join(VERBS)})\b{ACTION}((?:\\\n#?|[^`\n])*)")


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


def test_there_are_commands() -> None:
    found = [command for command in commands() if arguments(command[2])]
    assert len(found) > 150
    assert {verb for _, verb, _ in found} == set(VERBS)


def different() -> list[tuple[str, str, str]]:
    """Each command once, wherever it is written."""
    every = {(verb, *arguments(written)): (where, verb, written)
             for where, verb, written in commands()[::-1]}  # fmt: skip
    return list(every.values())[::-1]


@pytest.mark.parametrize(
    ("where", "verb", "written"), [pytest.param(*each, id=each[0]) for each in different()]
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
