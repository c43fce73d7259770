"""Runs the tutorials and keeps what they print and draw: `make tutorials`.

python docs/site/running.py [NAME ...]
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

from building import notebooks

SECONDS = 600  # of one cell, at most
FORMS = ("text/html", "image/jpeg", "image/png", "text/plain")


def run(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of a fresh run.

    Args:
        notebook: stays as it is.
        folder: in which its cells run.
    """
    os.environ |= {
        "LOOKALIKE_CACHE": str(folder / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # lookalike
        "PYTHONWARNINGS": "ignore",
        "WANDB_SILENT": "true",
    }
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    for cell in content.cells:
        cell.metadata = {}  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [kept(each) for each in cell.outputs if shows_something(each)]
    content.metadata = {"kernelspec": content.metadata["kernelspec"]}
    return content


def shows_something(output: nbformat.NotebookNode) -> bool:
    """Neither a warning nor a progress bar that has gone."""
    text = output.get("text", output.get("data", {}).get("text/plain", "a picture"))
    return output.get("name") != "stderr" and bool(text.strip())


def kept(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An output in one form alone, the best that a page can show."""
    data = output.get("data", {})
    for form in FORMS:
        if form in data:
            output.data = {form: data[form]}
            break
    return output


def main(names: list[str]) -> None:
    """Run the tutorials of these names, or all."""
    chosen = [each for each in notebooks() if not names or re.sub(r"^\d+_", "", each.stem) in names]
    for notebook in chosen:
        with TemporaryDirectory() as folder:
            content = run(notebook, Path(folder))
        nbformat.write(content, notebook)
        print(notebook)


if __name__ == "__main__":
    main(sys.argv[1:])
