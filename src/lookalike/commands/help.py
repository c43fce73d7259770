"""Help: what verbs there are, a page on each, the choices of a group, and the text of a key."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten, wrap

from lookalike.commands.choices import Key, choices_of, groups_of, header_of, keys_of
from lookalike.errors import InputError

WIDTH = 100  # columns
KEYS = 19  # of a verb's page


def show_help(folder: Path, verb: str, purpose: str, arguments: Sequence[str]) -> None:
    """Print the page of a verb, or of the groups and keys that are named.

    Exits with 2 where there is neither of such a name.

    Args:
        folder: conf/.
        verb: such as "train".
        purpose: of the verb, in a line.
        arguments: of the command line, --help among them.
    """
    names = [each.partition("=")[0] for each in arguments if not each.startswith("-")]
    keys = {key.name: key for key in keys_of(folder / f"{verb}.yaml")}
    try:
        pages = [
            key_page(keys[name]) if name in keys else group_page(folder, verb, name)
            for name in names
        ]
    except InputError as error:
        print(f"lookalike {verb}: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n\n".join(pages or [verb_page(folder, verb, purpose)]))


def verb_page(folder: Path, verb: str, purpose: str) -> str:
    """What a verb does, examples, its groups and its keys; at most 40 lines."""
    file = folder / f"{verb}.yaml"
    examples = [line for line in header_of(file) if f"{line} ".startswith(f"lookalike {verb} ")]
    groups, keys = groups_of(file), keys_of(file)
    lines = [f"lookalike {verb}: {purpose}", ""]
    lines += ["examples", *(f"  {line}" for line in examples)]
    if groups:
        lines += ["", f"groups; `lookalike {verb} --help GROUP` lists the choices of one"]
        lines += wrap(_written(groups), WIDTH, initial_indent="  ", subsequent_indent="  ")
    if keys:
        told = f"keys; `lookalike {verb} --help KEY` prints the text of one in full"
        lines += ["", told, *_columns({_assigned(key): key.comment for key in keys[:KEYS]})]
    if len(keys) > KEYS:
        lines += [f"  and {len(keys) - KEYS} more, see --cfg"]
    lines += ["", f"`lookalike {verb} --cfg job` prints the whole configuration"]
    return "\n".join(lines)


def group_page(folder: Path, verb: str, group: str) -> str:
    """The choices of a group, a line each."""
    choices = choices_of(folder, group)
    default = groups_of(folder / f"{verb}.yaml").get(group)
    lines = [f"{group}=...{f' (default: {default})' if default else ''}", *_columns(choices)]
    example = default or next(iter(choices))
    return "\n".join([*lines, "", f"`lookalike show {group}={example}` prints the keys of one"])


def key_page(key: Key) -> str:
    """A key with its default, and all that its file says of it."""
    text = wrap(key.comment, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([f"{key.name}={key.value}", *text])


def _written(groups: Mapping[str, str]) -> str:
    return "  ".join(f"{group}={choice or '...'}" for group, choice in groups.items())


def _assigned(key: Key) -> str:
    return f"{key.name}={key.value}"


def _columns(rows: Mapping[str, str]) -> list[str]:
    """Names, and beside them as much of their text as fits a line."""
    width = min(38, max(map(len, rows)))
    return [
        f"  {name:<{width}}  {shorten(text, WIDTH - width - 4, placeholder=' ...')}".rstrip()
        for name, text in rows.items()
    ]
