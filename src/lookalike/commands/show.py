"""lookalike show: a choice of a group, with its values and the comments of its file."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lookalike.commands.choices import choices_of, groups_of, header_of, keys_of, package_of
from lookalike.commands.verb import explain
from lookalike.config import compose
from lookalike.config_folder import config_folder
from lookalike.errors import InputError, did_you_mean


def show(arguments: Sequence[str]) -> str:
    """What one choice holds, such as that of ["loss=triplet"].

    Args:
        arguments: the choice, then overrides of `lookalike train` that it is shown with.

    Raises:
        InputError: there is no such group or choice.
    """
    group, equals, choice = arguments[0].partition("=") if arguments else ("", "", "")
    if not equals:
        raise InputError("give a choice of a group, such as lookalike show loss=triplet")
    known = choices_of(config_folder(), group)
    if choice not in known:
        raise InputError(
            f"there is no {group}={choice}.{did_you_mean(choice, known)} `lookalike train --help "
            f"{group}` lists all."
        )
    file = config_folder() / group / f"{choice}.yaml"
    package = package_of(file)
    if package == "_global_" or group not in groups_of(config_folder() / "train.yaml"):
        return file.read_text().rstrip()
    config: Any = OmegaConf.select(compose("train", arguments), package)
    header = [f"# {line}".rstrip() for line in header_of(file)]
    return "\n".join([*header, f"{package}:", *_lines(config, _comments(file), "  ")])


def included_files(file: Path) -> list[Path]:
    """The files without a group that the defaults of a file name, whose keys it takes over."""
    content: Any = OmegaConf.load(file)
    given = [each for each in content.get("defaults", []) if isinstance(each, str)]
    names = [name for each in given if (name := each.partition("@")[0]) != "_self_"]
    return [
        (config_folder() if name.startswith("/") else file.parent) / f"{name.strip('/')}.yaml"
        for name in names
    ]


def _comments(file: Path) -> dict[str, str]:
    """Of the keys of a file and of those that it includes, by their dotted names."""
    found = {}
    for included in included_files(file):
        found |= _comments(included)
    return found | {key.name: key.comment for key in keys_of(file) if key.comment}


def _lines(node: Any, comments: dict[str, str], indent: str, above: str = "") -> Iterator[str]:
    """A mapping as YAML, with its values resolved where they can be."""
    for key in node:
        name = f"{above}{key}"
        comment = f"  # {comments[name]}" if name in comments else ""
        value = _value(node, key)
        if OmegaConf.is_dict(value) and len(value):
            yield f"{indent}{key}:{comment}"
            yield from _lines(value, comments, f"{indent}  ", f"{name}.")
        else:
            written = OmegaConf.to_yaml(OmegaConf.create({key: value})).rstrip().splitlines()
            yield f"{indent}{written[0]}{comment}"
            yield from (f"{indent}{line}" for line in written[1:])


def _value(node: Any, key: Any) -> Any:
    """Resolved, or as it is written where only a run knows it."""
    try:
        return node[key]
    except OmegaConfBaseException:
        written: Any = OmegaConf.to_container(node)
        return written[key]


def main() -> None:
    """Print the choice that the command line names; exits with 2 where there is none."""
    try:
        print(show(sys.argv[1:]))
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"lookalike show: {explain(error, 'train')}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
