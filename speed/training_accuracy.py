"""Whether training faster costs recall: the plain script and `lookalike train`, an epoch each.

    python speed/training_accuracy.py --weights FILE

Oxford Flowers-102 below LOOKALIKE_DATA, zero-shot; FILE: ImageNet weights of MobileNetV2. Each
contender measures its own test embeddings; the definitions of the metrics agree.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import Table, rows, write
from training import FILES, PACKAGES, PLAIN, settings, write_table

from lookalike.training.experiment import Experiment

SEEDS = (0, 1, 2)
NETWORK = "mobilenet_v2"
COMMAND = "python speed/training_accuracy.py --weights FILE"


def plain(seed: int, weights: str, table: str) -> dict[str, float]:
    script = str(Path(__file__).with_name("plain_script.py"))
    command = [sys.executable, script, table, "--weights", weights, "--score", "--seed", str(seed)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(run.stdout)
    return {"recall@1": found["precision_at_1"], "MAP@R": found["mean_average_precision_at_r"]}


def lookalike(seed: int, weights: str, folder: Path) -> dict[str, float]:
    config = settings(folder, NETWORK, weights, f"seed={seed}")
    config.trainer.limit_train_batches = 1.0
    experiment = Experiment(config, folder)
    final = experiment.fit()
    scores = experiment.test(final)
    return {"recall@1": scores["test/recall_at_1"], "MAP@R": scores["test/map_at_r"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {PLAIN: [], FILES: []}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "records.csv"
        write_table(table)
        for seed in SEEDS:
            found[PLAIN].append(plain(seed, given.weights, str(table)))
            found[FILES].append(lookalike(seed, given.weights, Path(folder) / str(seed)))
            print(seed, {name: runs[-1] for name, runs in found.items()})
    write("training_accuracy", [compared(metric, found) for metric in ("recall@1", "MAP@R")])


def compared(metric: str, found: dict[str, list[dict[str, float]]]) -> Table:
    values = {name: tuple(run[metric] for run in runs) for name, runs in found.items()}
    return Table(
        f"Test {metric} after one epoch of the training half of Flowers, {NETWORK}, seeds {SEEDS}",
        COMMAND,
        metric,
        PLAIN,
        rows(values, PLAIN, {FILES: 1.0}, lower_is_better=False),
        packages=PACKAGES,
    )


if __name__ == "__main__":
    main()
