"""Commands that are printed for the user, to be copied."""

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "lookalike"


def command(*arguments: str) -> str:
    """A command of lookalike, quoted for a shell.

    Where no environment is active it begins with the path of the program.
    """
    return shlex.join([_program(), *arguments])


def _program() -> str:
    own = Path(sys.executable).with_name(NAME)
    if shutil.which(NAME) or not own.is_file():
        return NAME
    return min(str(own), os.path.relpath(own), key=len)
