"""The reference of the configuration, from the files of conf/: every group, choice and key."""

import re
from collections.abc import Iterator
from pathlib import Path

from lookalike.__main__ import VERBS
from lookalike.commands.choices import (
    Key,
    choices_of,
    every_key,
    groups_of,
    header_of,
    package_of,
)
from lookalike.commands.show import included_files
from lookalike.config_folder import config_folder

CONF = config_folder()
NO_CHOICES = ("base", "hydra", "paths")
_OVERRIDE = re.compile(r"  - override /(\w+)(?:@\S+)?: (.+?)(?: +#.*)?$", re.MULTILINE)
_TARGET = re.compile(r"^_target_: (\S+)", re.MULTILINE)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def groups() -> list[str]:
    """The groups that have choices, by name."""
    folders = sorted(each.name for each in CONF.iterdir() if each.is_dir())
    return [name for name in folders if name not in NO_CHOICES]


def configuration_pages() -> dict[str, str]:
    """Markdown by file name."""
    pages = {"index.md": _overview()}
    pages |= {f"command_{verb}.md": verb_page(verb) for verb in VERBS}
    return pages | {f"group_{group}.md": group_page(group) for group in groups()}


def _overview() -> str:
    default = groups_of(CONF / "train.yaml")
    lines = [
        "# Configuration",
        "",
        "These pages are made from the files of `conf/`: every command, group, choice, key, "
        "default and comment. A command line chooses with `group=choice` and sets a key with "
        "`key=value`; `lookalike train --help loss` and `lookalike show loss=triplet` print the "
        "same.",
        "",
        "## Commands",
        "",
        "| command | what it does |",
        "|---|---|",
        *(f"| [{verb}](command_{verb}.md) | {purpose} |" for verb, purpose in VERBS.items()),
        "",
        "## Groups",
        "",
        "| group | default of `train` | choices |",
        "|---|---|---|",
        *(
            f"| [{name}](group_{name}.md) | {_code(default.get(name, ''))} "
            f"| {len(choices_of(CONF, name))} |"
            for name in groups()
        ),
    ]
    return "\n".join(lines)


def verb_page(verb: str) -> str:
    """A command: examples, its groups with their defaults, its keys."""
    file = CONF / f"{verb}.yaml"
    lines = [f"# lookalike {verb}", "", f"{VERBS[verb].capitalize()}.", "", *_header(file)]
    chosen = {name: choice for name, choice in groups_of(file).items() if name in groups()}
    if chosen:
        lines += ["", "## Groups", "", "| group | default |", "|---|---|"]
        lines += [
            f"| [{name}](group_{name}.md) | {_code(each or _nothing(name))} |"
            for name, each in chosen.items()
        ]
    return "\n".join([*lines, "", "## Keys", "", *_table(every_key(file))])


def _nothing(group: str) -> str:
    """What stands for no choice; in some groups one must be given."""
    return "none" if (CONF / group / "none.yaml").is_file() else ""


def group_page(group: str) -> str:
    """All choices of a group."""
    default = groups_of(CONF / "train.yaml").get(group)
    said = f" `lookalike train` takes `{group}={default}` if you say nothing." if default else ""
    lines = [f"# {group}", "", f"Choose with `{group}=...`.{said}", ""]
    for choice in choices_of(CONF, group):
        lines += [f"## {choice}", "", *_choice(CONF / group / f"{choice}.yaml"), ""]
    return "\n".join(lines)


def _choice(file: Path) -> Iterator[str]:
    yield from _header(file)
    yield ""
    text = file.read_text()
    if is_shown_whole(text):
        yield from _fence("yaml", _body(text))
        return
    if brought := _OVERRIDE.findall(text):
        listed = ", ".join(f"`{group}={choice}`" for group, choice in brought)
        yield from (f"Brings along: {listed}", "")
    if target := _TARGET.search(text):
        yield from (f"Makes {_linked(target[1])}.", "")
    yield from _table(list(keys_with_included(file).values()), f"{package_of(file)}.")


def is_shown_whole(text: str) -> bool:
    """Whether a file is shown as it is: it changes other groups, or has lists of several lines."""
    return bool(re.search(r"^# @package _global_|^(?!defaults)\w+:(?: +#.*)?\n  - ", text, re.M))


def keys_with_included(file: Path) -> dict[str, Key]:
    """The keys of a choice by name, those of the files that it includes first."""
    keys: dict[str, Key] = {}
    for included in included_files(file):
        keys |= keys_with_included(included)
    for key in every_key(file):
        known = keys.get(key.name, key)
        keys[key.name] = Key(key.name, key.value, key.comment or known.comment)
    return keys


def _table(keys: list[Key], above: str = "") -> list[str]:
    """Of keys; one without a value is a heading of those below, and is left out."""
    names = [key.name for key in keys]
    shown = [
        key
        for key in keys
        if key.value or not any(name.startswith(f"{key.name}.") for name in names)
    ]
    if not shown:
        return ["It has no keys."]
    rows = [f"| `{above}{key.name}` | {_code(key.value)} | {_text(key.comment)} |" for key in shown]
    return ["| key | default | |", "|---|---|---|", *rows]


def _header(file: Path) -> list[str]:
    """The comment at the top of a file: text as text, commands as code."""
    lines: list[str] = []
    commands: list[str] = []
    for line in [*header_of(file), ""]:
        if line.strip().startswith("lookalike ") or (commands and commands[-1].endswith("\\")):
            commands.append(line.strip())
            continue
        if commands:
            lines += ["", *_fence("console", "\n".join(f"$ {each}" for each in commands)), ""]
            commands = []
        lines.append(_text(line))
    return lines


def _body(text: str) -> str:
    """Without the comment at the top."""
    lines = text.splitlines()
    start = next(
        (n for n, line in enumerate(lines) if line and not line.startswith("#")), len(lines)
    )
    return "\n".join(lines[start:]) or "{}"


def _fence(language: str, code: str) -> list[str]:
    return [f"```{language}", *code.splitlines(), "```"]


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _text(text: str) -> str:
    """A comment as Markdown that shows the same, with links to papers; code stays code."""
    parts = re.split(r"(`[^`]+`)", text.strip())
    return "".join(_code(each[1:-1]) if each[:1] == "`" else _escaped(each) for each in parts)


def _escaped(text: str) -> str:
    safe = re.sub(r"([\\`*_{}\[\]])", r"\\\1", text).replace("<", "&lt;").replace("|", "&#124;")
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", safe)


def _linked(target: str) -> str:
    return f"[`{target}`][{target}]" if target.startswith("lookalike.") else f"`{target}`"
