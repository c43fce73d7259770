"""Retrieval metrics beside FAISS's search alone, pytorch-metric-learning and open-metric-learning.

python speed/evaluation.py --rivals .rivals/bin/python     (see rivals.txt; without: no OML)

Sets are class centres plus noise on the unit sphere, in random order; queries are the gallery.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from rival import Worker
from side_by_side import ROUNDS, Table, rows, take_turns, write

from lookalike.evaluation.metrics import values_of
from lookalike.memory import keep_freed_memory
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines, Name
from lookalike.retrieval.faiss_flat import import_faiss

K = (1, 2, 4, 8)
OURS, WHOLE, FAISS, OML = "lookalike", "lookalike, with MAP", "FAISS search, k = 11", "OML"
PML, PML_DEFAULT = "PML, k=max_bin_count", "PML, its defaults without clustering"
faiss = import_faiss()  # with the kernels of this processor, for all contenders
COMMAND = "python speed/evaluation.py --rivals .rivals/bin/python"
PACKAGES = ("torch", "numpy", "faiss-cpu", "pytorch-metric-learning")
PML_NAMES = {
    "precision_at_1": "precision_at_1",
    "r_precision": "r_precision",
    "mean_average_precision_at_r": "map_at_r",
}


def clusters(n: int, size: int, each: int, large: int = 0, noise: float = 2.0) -> Embeddings:
    """`each` images a class; the first `large` images are one class."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) // each
    labels[:large] = 0
    vectors = rng.standard_normal((labels.max() + 1, size), np.float32)[labels]
    vectors += np.float32(noise) * rng.standard_normal((n, size), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = rng.permutation(n)
    return Embeddings(vectors[order], labels[order], np.arange(n))


def ours(
    everything: Embeddings, whole_ranking: bool = False, engine: Name = "auto"
) -> dict[str, float]:
    values = values_of(everything, everything, K, whole_ranking, engines=Engines(engine))
    return {name: float(np.nanmean(column)) for name, column in values.items()}


def search_alone(everything: Embeddings) -> None:
    index = faiss.IndexFlatIP(everything.vectors.shape[1])
    index.add(everything.vectors)
    index.search(everything.vectors, 11)


def pml(everything: Embeddings, **settings: object) -> dict[str, float]:
    calculator = AccuracyCalculator(**settings)
    found = calculator.get_accuracy(everything.vectors, everything.labels)
    return {ours: float(found[theirs]) for theirs, ours in PML_NAMES.items()}


def assert_agree(mine: dict[str, float], theirs: dict[str, float]) -> None:
    """Rivals score in float32: a near-tie may fall the other way."""
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, atol=2e-5, err_msg=name)


def rivals(rounds: int, oml_python: str | None, folder: Path) -> list[Table]:
    everything = _whole_classes(clusters(16_000, 128, 12), 12)
    file = folder / "rivals.npz"
    np.savez(file, vectors=everything.vectors, labels=everything.labels)
    quick = partial(pml, everything, include=tuple(PML_NAMES), k="max_bin_count")
    contenders: dict[str, Callable[[], object]] = {
        OURS: partial(ours, everything),
        WHOLE: partial(ours, everything, whole_ranking=True),
        PML: quick,
        FAISS: partial(search_alone, everything),
    }
    notes = {
        OURS: f"{_peak(OURS, file)} MiB above the embeddings",
        WHOLE: f"{_peak(WHOLE, file)} MiB",
        PML: f"{_peak(PML, file)} MiB",
    }
    mine = ours(everything)
    assert_agree(mine, quick())
    reference = FAISS
    if oml_python:
        worker = Worker(oml_python, str(Path(__file__).with_name("oml_worker.py")), str(file))
        first = worker()
        assert_agree(mine, first["values"])
        notes[OML] = f"{first['mebibytes']:.0f} MiB"
        contenders = {OML: worker, **contenders}
        reference = OML
    size = f"{len(everything):,} x 128, 12 a class"
    values = take_turns(contenders, rounds)
    tables = [
        Table(
            f"Recall@k, P@1, R-precision and MAP@R of {size}",
            COMMAND,
            "s",
            reference,
            rows(values, reference, {OURS: 4} if oml_python else None, notes),
            ["Values are equal where definitions agree; the script asserts it."],
            PACKAGES,
        )
    ]
    if oml_python:
        worker.close()
    contenders = {
        OURS: partial(ours, everything),
        PML_DEFAULT: partial(pml, everything, exclude=("NMI", "AMI")),
    }
    values = take_turns(contenders, rounds, warm_up=False)
    note = "PML's defaults rank the whole gallery, and would also cluster it."
    title = f"Beside PML's AccuracyCalculator() as it comes, {size}"
    tables.append(
        Table(title, COMMAND, "s", PML_DEFAULT, rows(values, PML_DEFAULT, {OURS: 50}), [note])
    )
    return tables


def large(n: int, rounds: int, folder: Path) -> list[Table]:
    sets = {
        "12 a class": clusters(n, 512, 12),
        "60 a class": clusters(n, 512, 60),
        "one class of 5000": clusters(n, 512, 12, large=5000),
    }
    notes: dict[str, str] = {}
    contenders: dict[str, Callable[[], object]] = {FAISS: partial(search_alone, sets["12 a class"])}
    for name, everything in sets.items():
        file = folder / "large.npz"
        np.savez(file, vectors=everything.vectors, labels=everything.labels)
        contenders[f"{OURS}, {name}"] = partial(ours, everything)
        notes[f"{OURS}, {name}"] = f"{_peak(OURS, file)} MiB above the embeddings"
    values = take_turns(contenders, rounds, warm_up=False)
    targets = {f"{OURS}, {name}": 2 if name == "12 a class" else 1 / 1.15 for name in sets}
    return [
        Table(
            f"The same metrics of {n:,} x 512",
            COMMAND,
            "s",
            FAISS,
            rows(values, FAISS, {name: round(least, 2) for name, least in targets.items()}, notes),
            ["FAISS only searches, for 11 neighbours; we search and measure, to the last digit."],
            PACKAGES,
        )
    ]


def growth(largest: int, rounds: int) -> list[Table]:
    """One table for each number of dimensions; times of FAISS, and of ours with each engine."""
    engines: dict[str, Name] = {OURS: "auto", "engine=faiss": "faiss", "engine=bounded": "bounded"}
    tables = []
    for size in (128, 512):
        lines = []
        for n in (n for n in (2_000, 5_000, 10_000, 20_000, 60_000, 120_000) if n <= largest):
            everything = clusters(n, size, 12)
            contenders: dict[str, Callable[[], object]] = {FAISS: partial(search_alone, everything)}
            for name, engine in engines.items():
                if n <= 20_000 or name == OURS:
                    contenders[name] = partial(ours, everything, engine=engine)
            found = take_turns(contenders, rounds, warm_up=n < 20_000)
            of_this_size = {f"{name}, {n:,}": seconds for name, seconds in found.items()}
            lines += rows(of_this_size, f"{FAISS}, {n:,}", {f"{OURS}, {n:,}": round(1 / 1.05, 2)})
        title = f"Growth with the number of images, {size} dimensions"
        reference = f"{FAISS}, of as many"
        tables.append(Table(title, COMMAND, "s", reference, lines))
    return tables


def _whole_classes(everything: Embeddings, each: int) -> Embeddings:
    counts = np.bincount(everything.labels)
    kept = everything[counts[everything.labels] == each]
    return Embeddings(kept.vectors, kept.labels, np.arange(len(kept)))


def _peak(name: str, file: Path) -> str:
    command = [sys.executable, __file__, "--peak", name, str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def print_peak(name: str, file: str) -> None:
    """MiB by which this process grows at most while one contender measures."""
    data = np.load(file)
    everything = Embeddings(data["vectors"], data["labels"], np.arange(len(data["labels"])))
    measures = {
        OURS: ours,
        WHOLE: partial(ours, whole_ranking=True),
        PML: partial(pml, include=tuple(PML_NAMES), k="max_bin_count"),
    }
    measures[name](everything[:600])  # libraries are loaded, threads started
    before = _high_water()
    measures[name](everything)
    print(f"{(_high_water() - before) / 1024:.0f}")


def _high_water() -> int:
    """KiB; unlike ru_maxrss it doesn't begin with what the parent process had."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rivals", help="Python of the environment of rivals.txt")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--largest", type=int, default=60_000, help="of the growth")
    parser.add_argument("--large", type=int, default=60_000)
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(*options.peak)
        return
    keep_freed_memory()  # as every verb does
    with TemporaryDirectory() as folder:
        tables = rivals(options.rounds, options.rivals, Path(folder))
        tables += large(options.large, options.rounds, Path(folder))
    write("evaluation", tables + growth(options.largest, options.rounds))


if __name__ == "__main__":
    main()
