"""The tutorials as pages: cells of a notebook, and what they printed and drew, as Markdown."""

import re
from base64 import b64decode
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import nbformat

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def as_page(notebook: Path, pictures: Path) -> str:
    """A notebook in Markdown.

    Args:
        notebook: with its outputs.
        pictures: a folder beside the page, for what the notebook drew.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    blocks = []
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            blocks.append(cell.source)
        elif cell.source:
            blocks.append(f"```python\n{cell.source}\n```")
            blocks += _outputs(cell.outputs, pictures, f"{notebook.stem}_{number}")
    where = f"This page is a notebook: `docs/tutorials/{notebook.name}`."
    return "\n\n".join([*blocks, f"*{where}*"])


def _outputs(outputs: list[Any], pictures: Path, name: str) -> Iterator[str]:
    for number, output in enumerate(outputs):
        data = output.get("data", {})
        if "text/html" in data:
            in_a_line = data["text/html"].strip().replace("\n", "&#10;")  # Markdown ends at a gap
            yield f'<div class="output">{in_a_line}</div>'
        elif form := next((each for each in ("image/jpeg", "image/png") if each in data), None):
            pictures.mkdir(parents=True, exist_ok=True)
            file = pictures / f"{name}_{number}.{form.removeprefix('image/')}"
            file.write_bytes(b64decode(data[form]))
            yield f"![What the cell drew]({pictures.name}/{file.name})"
        elif text := output.get("text") or data.get("text/plain"):
            plain = escape(_ANSI.sub("", text).rstrip())
            yield f'<div class="output"><pre>{plain}</pre></div>'
