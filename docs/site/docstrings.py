"""Docstrings as mkdocstrings reads them: attributes as a section, examples as code.

Value objects say one attribute a line, without a heading, and examples follow the text.
"""

import re
from typing import Any

from griffe import Class, Extension, Function, Object

_ATTRIBUTE = re.compile(r"[a-z]\w*: \S")


class PlainDocstrings(Extension):
    """Griffe calls it for everything that it reads."""

    def on_class_instance(self, *, cls: Class, **kwargs: Any) -> None:
        """A class has been read."""
        _change(cls, with_attributes=True)

    def on_function_instance(self, *, func: Function, **kwargs: Any) -> None:
        """A function has been read."""
        _change(func, with_attributes=False)


def _change(thing: Object, with_attributes: bool) -> None:
    if thing.docstring:
        thing.docstring.value = in_sections(thing.docstring.value, with_attributes)


def in_sections(text: str, with_attributes: bool = True) -> str:
    """A docstring with its attributes below "Attributes:" and its examples as code.

    >>> print(in_sections("A point.\\n\\nx: to the right,\\n    in pixels.\\ny: down."))
    A point.
    <BLANKLINE>
    Attributes:
        x: to the right,
            in pixels.
        y: down.
    """
    blocks = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if block.startswith(">>> "):
            blocks.append("\n".join(["```pycon", *lines, "```"]))
        elif with_attributes and _ATTRIBUTE.match(block) and all(map(_of_attributes, lines)):
            blocks.append("\n".join(["Attributes:", *(f"    {line}" for line in lines)]))
        else:
            blocks.append(block)
    return "\n\n".join(blocks)


def _of_attributes(line: str) -> bool:
    return bool(_ATTRIBUTE.match(line)) or line.startswith("    ")
