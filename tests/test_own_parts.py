"""docs/own_parts.md, as a reader follows it: files from its blocks, then its commands."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import CHECKOUT

PAGE = (CHECKOUT / "docs" / "own_parts.md").read_text()
QUICK = [
    "data.source.species=8",
    "data.source.images_per_species=8",
    "data.source.size=40",
    "data.folds=2",
    "trainer.max_epochs=1",
    "callbacks=none",
    "data.num_workers=0",
]


@pytest.mark.slow
def test_the_page_works(tmp_path: Path) -> None:
    files = re.findall(r"`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert len(files) == 4
    for name, content in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    commands = re.findall(r"^\$ lookalike (.*)$", PAGE, re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        "train", "evaluate", "train", "train", "evaluate",
    ]  # fmt: skip
    for command in commands:
        words = shlex.split(command)
        quick = []
        if words[0] == "train":
            own_data = "data=patches" in words
            quick = [each for each in QUICK if not (own_data and each.startswith("data.source"))]
            quick += [f"paths.cache={tmp_path}", f"paths.data={tmp_path}"]
        shown = subprocess.run(
            [Path(sys.executable).with_name("lookalike"), *words, *quick],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
    measured = json.loads((tmp_path / "run_on_patches" / "metrics.json").read_text())
    assert measured["counts"]["test_images"] == 36
