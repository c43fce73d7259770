"""study.journal: what a process that was killed, or a power cut, left of it is made readable."""

import json
import logging
from pathlib import Path

from lookalike.errors import InputError
from lookalike.files import writing

log = logging.getLogger(__name__)


def mend_journal(file: Path) -> None:
    """Leave out the torn end of a journal, behind which Optuna would write on; drop its old lock.

    Args:
        file: need not be there; no other process may use it.

    Raises:
        InputError: there are whole lines behind a torn one.
    """
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)  # Optuna would wait for its owner
    if not file.is_file():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    whole = [_is_whole(line) for line in lines]
    torn = whole.index(False) if False in whole else len(lines)
    if any(whole[torn:]):
        raise InputError(
            f"{file} is damaged at line {torn + 1}: trials before and behind it can't be told to "
            "belong together. Remove that line, or search anew with name=<another>."
        )
    if torn < len(lines):
        log.warning("The torn end of %s (line %d) is left out", file, torn + 1)
        with writing(file, "wb") as stream:
            stream.writelines(lines[:torn])


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
