"""Shell completion: `eval "$(lookalike completion bash)"` lets Tab finish words.

These are verbs, groups, choices and keys. Only conf/ is read, so that Tab answers at once.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lookalike.commands.choices import choices_of, groups_of, keys_of

_FUNCTION = """\
_lookalike() {
  local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}"
  COMPREPLY=($(lookalike completion words "$line"))
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _lookalike lookalike
"""
SCRIPTS = {
    "bash": "COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}\n" + _FUNCTION,
    "zsh": "autoload -U +X bashcompinit && bashcompinit\n" + _FUNCTION,
}


def words(folder: Path, verbs: Iterable[str], line: str) -> list[str]:
    """What the last word of a command line may become.

    Args:
        folder: conf/.
        verbs: of the program.
        line: up to the cursor, such as "lookalike tr".
    """
    *before, last = line.split(" ")
    given = [each for each in before if each]
    if len(given) < 2:
        return _beginning_with(last, verbs)
    file = folder / f"{given[1]}.yaml"
    if not file.is_file():
        return []
    group, equals, _ = last.partition("=")
    if equals and (folder / group).is_dir():
        head, comma, choice = last.rpartition(",")  # of a sweep, loss=triplet,circle
        begun = f"{head}," if comma else f"{group}="
        wanted = choice if comma else last.partition("=")[2]
        return [begun + each for each in _beginning_with(wanted, choices_of(folder, group))]
    keys = (key.name for key in keys_of(file))
    return _beginning_with(last, (f"{each}=" for each in [*groups_of(file), *keys]))


def main(folder: Path, verbs: Iterable[str], arguments: Sequence[str]) -> None:
    """Print the script for a shell, or the words that end a line; exits with 2 otherwise."""
    match arguments:
        case ["words", line]:
            print("\n".join(words(folder, verbs, line)))
        case [shell] if shell in SCRIPTS:
            print(SCRIPTS[shell], end="")
        case _:
            print(
                "lookalike completion: name your shell, bash or zsh, and put this into its start "
                'file: eval "$(lookalike completion bash)"',
                file=sys.stderr,
            )
            sys.exit(2)


def _beginning_with(start: str, words: Iterable[str]) -> list[str]:
    return sorted(each for each in words if each.startswith(start))
