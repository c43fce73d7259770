"""Open-metric-learning in an environment of its own: measures what it is sent, when it is told to.

`python oml_worker.py set.npz` answers every line of input with a line of JSON: its values, and by
how many MiB the process has grown at most. It runs the two functions that do the work, without
the data frames and checks around them.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from oml.functional.knn import batched_knn_qg
from oml.functional.metrics import calc_retrieval_metrics


def measure(vectors: torch.Tensor, labels: torch.Tensor, relevant: int) -> dict[str, float]:
    """Recall, R-precision: with equally many images in every class it is precision at R."""
    ids = torch.arange(len(labels))
    k = max(8, relevant)
    _, found, relevant_ids = batched_knn_qg(vectors, vectors, k, labels, labels, ids, ids)
    values = calc_retrieval_metrics(
        found, relevant_ids, None, (1, 2, 4, 8), (1, relevant), (relevant,), verbose=False
    )
    recalls = {f"recall_at_{k}": float(value) for k, value in values["cmc"].items()}
    return recalls | {
        "precision_at_1": float(values["precision"][1]),
        "r_precision": float(values["precision"][relevant]),
    }


def peak() -> int:
    """KiB; unlike ru_maxrss it doesn't begin with what the parent process had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    data = np.load(sys.argv[1])
    vectors, labels = torch.from_numpy(data["vectors"]), torch.from_numpy(data["labels"])
    relevant = int(np.bincount(data["labels"]).max()) - 1
    before = peak()
    for _ in sys.stdin:
        values = measure(vectors, labels, relevant)
        print(json.dumps({"values": values, "mebibytes": (peak() - before) / 1024}), flush=True)


if __name__ == "__main__":
    main()
