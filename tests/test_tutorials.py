"""The tutorials run from top to bottom, on drawn flowers."""

from pathlib import Path

import nbformat
import pytest

from building import notebooks
from running import run


@pytest.mark.slow  # half a minute to a minute each
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
@pytest.mark.parametrize("notebook", notebooks(), ids=lambda file: file.stem)
def test_a_tutorial_runs(notebook: Path, tmp_path: Path) -> None:
    """Without an error, and the cells that show something are those that are kept with outputs."""
    kept = nbformat.read(notebook, as_version=4).cells
    ran = run(notebook, tmp_path).cells
    assert [bool(c.get("outputs")) for c in ran] == [bool(c.get("outputs")) for c in kept]
