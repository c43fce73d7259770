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
        cell.outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    content.metadata = {"kernelspec": content.metadata["kernelspec"]}
    return content


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
