"""The environments that `make setup` builds."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
BESIDE_TORCH = """
import re
import faiss, torch
assert hasattr(faiss, "StandardGpuResources")
built = torch.version.cuda.partition(".")[0]
from importlib.metadata import distributions
named = [re.search("-cu([0-9]+)$", each.name) for each in distributions()]
assert {each[1] for each in named if each} == {built}, named
from lookalike.retrieval.faiss_flat import gpus_of_faiss
print(gpus_of_faiss())
"""


@pytest.mark.slow
def test_faiss_for_gpus_is_imported_beside_torch_and_shares_its_cuda(tmp_path: Path) -> None:
    settings = ["FAISS=gpu", f"VENV={tmp_path}/venv", f"PYTHON={sys.executable}"]
    subprocess.run(["make", "setup", *settings], cwd=CHECKOUT, check=True)
    python = f"{tmp_path}/venv/bin/python"
    shown = subprocess.run([python, "-c", BESIDE_TORCH], check=True, capture_output=True, text=True)
    assert int(shown.stdout) >= 0
