"""The list of changes that no test notices is of the code as it is, and counts what it lists."""

import re
from collections import defaultdict
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = (CHECKOUT / "docs" / "mutants.md").read_text()


def changed() -> dict[str, list[str]]:
    """The code that was changed, by module."""
    found, module = defaultdict(list), ""
    for line in PAGE.splitlines():
        if heading := re.fullmatch(r"`([\w.]+)`:", line):
            module = heading[1]
        elif line.startswith("- "):
            found[module] += re.findall(r"(?:: |; )`([^`]+)` → ", line)
    return found


def test_what_was_changed_is_still_there() -> None:
    found = changed()
    assert len(found) > 20
    for module, fragments in found.items():
        source = (CHECKOUT / "src" / "lookalike" / f"{module.replace('.', '/')}.py").read_text()
        source = " ".join(source.split())
        for fragment in fragments:
            assert fragment in source, (module, fragment, "try its mutants again")


def test_all_that_was_not_noticed_is_listed() -> None:
    whole, noticed, left = map(
        int, re.findall(r"(\d+)(?= changes of `evaluation| were noticed| stand below)", PAGE)
    )
    of_kinds = re.findall(r"^(\d+) changes (?!of `evaluation)", PAGE, re.MULTILINE)
    assert left == whole - noticed == sum(map(int, of_kinds))
