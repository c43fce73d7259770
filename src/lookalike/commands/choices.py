"""What conf/ says about itself: the groups and keys of a verb, the choices of a group, comments.

Only the files' text is read, so that help comes at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lookalike.errors import InputError, did_you_mean

_DEFAULT = re.compile(r"  - (?:optional )?(\w+): (\S+)(?:\s+# (.*))?$")
_KEY = re.compile(r"( *)([\w.]+):(?: (?!#)(.*?))?(?: +# (.*))?$")
_NO_CHOICE = ("hydra", "paths")  # groups that nobody chooses from
_BY_THE_PROGRAM = ("learner.planned_epochs", "resume.fingerprint")  # it sets these keys itself


@dataclass(frozen=True)
class Key:
    """A key of a configuration file.

    name: dotted.
    value: as it is written.
    comment: behind it.
    """

    name: str
    value: str
    comment: str


def header_of(file: Path) -> list[str]:
    """The comment lines at the top of a file, without their signs."""
    lines = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def package_of(file: Path) -> str:
    """Where a choice stands in the configuration, such as "data.sampler"."""
    found = re.search(r"^# @package (\S+)", file.read_text(), re.MULTILINE)
    return found[1] if found else file.parent.name


def groups_of(file: Path) -> dict[str, str]:
    """The groups that a verb's file has, with their default choices; "" where there is none."""
    found = (_DEFAULT.match(line) for line in _part(file, "defaults"))
    pairs = [(each[1], each[2]) for each in found if each and each[1] not in _NO_CHOICE]
    return {group: "" if choice in ("null", "none", "???") else choice for group, choice in pairs}


def keys_of(file: Path) -> list[Key]:
    """The keys of a file that a user sets: those with a value that no other key decides."""
    set_by_users = (key for key in every_key(file) if key.name not in _BY_THE_PROGRAM)
    return [key for key in set_by_users if key.value and not key.value.startswith("${")]


def every_key(file: Path) -> list[Key]:
    """The keys of a file as they are written, but for `_target_` and the like."""
    above: list[str] = []
    found = []
    for line in file.read_text().splitlines():
        match = _KEY.match(line)
        if match is None:
            continue
        depth = len(match[1]) // 2
        above[depth:] = [match[2]]
        if above[0] not in ("defaults", *_NO_CHOICE) and not match[2].startswith("_"):
            found.append(Key(".".join(above), match[3] or "", match[4] or ""))
    return found


def choices_of(folder: Path, group: str) -> dict[str, str]:
    """The choices of a group, each with the first sentence of its file.

    Raises:
        InputError: there is no such group.
    """
    if not (folder / group).is_dir() or group in (*_NO_CHOICE, "base"):
        groups = [each.name for each in folder.iterdir() if each.is_dir()]
        raise InputError(f"there is no group {group!r}.{did_you_mean(group, groups)}")
    files = sorted((folder / group).glob("*.yaml"))
    return {file.stem: (header_of(file) or [""])[0] for file in files}


def _part(file: Path, key: str) -> Iterator[str]:
    """The indented lines below a key at the top of a file."""
    inside = False
    for line in file.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            inside = line.startswith(f"{key}:")
        elif inside:
            yield line
