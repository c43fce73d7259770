"""Every process that computes keeps the memory that it frees, whoever started it."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lookalike.memory import SWITCH

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not platform.libc_ver()[0], reason="needs glibc"),
]
PROBE = '''
import ctypes, os
from pathlib import Path
from lookalike.data.transforms import RandomViews

SEEN = Path(__file__).with_name("seen.txt")

def keeps():
    """Whether a large block comes from the heap, which keeps it, and not from the kernel."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    block = library.malloc(2**26)
    lines = Path("/proc/self/maps").read_text().splitlines()
    heap = [line.split()[0].split("-") for line in lines if line.endswith("[heap]")]
    library.free(block)
    return any(int(start, 16) <= block < int(end, 16) for start, end in heap)

class Views(RandomViews):
    def __call__(self, images):
        with SEEN.open("a") as stream:
            stream.write(f"{os.getpid()} {keeps()}\\n")
        return super().__call__(images)
'''
BENCHMARK = """
_target_: lookalike.studies.cells.Benchmark
every: [callbacks=none]
axes: [[loss=triplet]]
folds: [0]
seeds: [0]
metrics: [map_at_r]
"""
TUNE = """
defaults: [/base/tune@_here_, _self_]
every: [loss=triplet, callbacks=none]
space: {loss.margin: {low: 0.1, high: 1.0}}
folds: [0]
trials: 1
reproductions: [7]
"""
AS_A_LAUNCHER = """
import sys
from lookalike.config import compose
from lookalike.training.run import train
sys.path.append(".")
train(compose("train", sys.argv[1:]))
"""
# as Python 3.14 starts workers by default
FORKSERVER = "import multiprocessing; multiprocessing.set_start_method('forkserver')\n"
JOB = ["hydra.run.dir=run", "name=job"]
COMMANDS = {
    "train": ["-m", "lookalike", "train"],
    "its data worker": ["-m", "lookalike", "train", "data.num_workers=1"],
    "a benchmark's cell": ["-m", "lookalike", "benchmark", "--config-dir=mine", "benchmark=one"],
    "a search's trial": ["-m", "lookalike", "tune", "--config-dir=mine", "tune=one"],
    "a sweep's job": ["-m", "lookalike", "train", "-m", "embedding_size=4,8"],
    "a launcher's process": ["-c", AS_A_LAUNCHER, *JOB],
    "a worker begun anew": ["-c", FORKSERVER + AS_A_LAUNCHER, *JOB, "data.num_workers=1"],
}


def processes(folder: Path, tiny: tuple[str, ...], how: list[str], switch: str) -> dict[str, str]:
    """Whether each process that made training views keeps memory, "True" or "False", by its id."""
    (folder / "probe.py").write_text(PROBE)
    for kind, text in (("benchmark", BENCHMARK), ("tune", TUNE)):
        (folder / "mine" / kind).mkdir(parents=True)
        (folder / "mine" / kind / "one.yaml").write_text(text)
    swept = any("embedding_size" in each for each in how)
    own = [each for each in tiny if not (swept and each.startswith("embedding_size"))]
    own = [each for each in own if "num_workers" not in each or "data.num_workers=1" not in how]
    command = [sys.executable, *how, *own, "data.transform.train._target_=probe.Views"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUN"))}
    environment = {**clean, "OMP_NUM_THREADS": "1", SWITCH: switch}
    done = subprocess.run(
        command, cwd=folder, env=environment, timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split() for line in (folder / "seen.txt").read_text().splitlines())


@pytest.mark.parametrize("how", COMMANDS.values(), ids=COMMANDS)
def test_a_process_keeps_memory(how: list[str], tiny: tuple[str, ...], tmp_path: Path) -> None:
    assert set(processes(tmp_path, tiny, how, "1").values()) == {"True"}


def test_none_does_where_it_is_switched_off(tiny: tuple[str, ...], tmp_path: Path) -> None:
    how = COMMANDS["its data worker"]
    assert set(processes(tmp_path, tiny, how, "0").values()) == {"False"}


LARGE = """
import numpy as np
from pathlib import Path
from lookalike.memory import keep_freed_memory
from lookalike.retrieval.bounded import ROWS, Bounded

def own():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024

keep_freed_memory()
gallery = np.random.default_rng(0).standard_normal((60 * ROWS, 256), np.float32)
Bounded(gallery[: 2 * ROWS])  # what is loaded once
before = own()
engine = Bounded(gallery)
print("TOLD", own() - before, engine.sample.nbytes / 2**20)
"""


def test_an_engine_takes_no_more_than_its_sample_needs(tmp_path: Path) -> None:
    """Small tensors that are kept among large ones once held 2 MiB each, for every 2048 rows."""
    shown = subprocess.run(
        [sys.executable, "-c", LARGE], cwd=tmp_path, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    taken, sample = map(float, shown.stdout.rpartition("TOLD")[2].split())
    assert taken < 6 * sample + 20  # rounded from a float32 copy
