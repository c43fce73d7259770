"""Memory of `lookalike train` over 50 short epochs, its workers included.

python speed/memory.py
"""

import tempfile
from pathlib import Path
from statistics import median

from composing import train_config
from omegaconf import DictConfig
from pytorch_lightning import Callback
from side_by_side import Row, Table, write

from lookalike.training.experiment import Experiment

EPOCHS = 50
COMMAND = "python speed/memory.py"


def configuration(folder: str) -> DictConfig:
    return train_config(folder, f"trainer.max_epochs={EPOCHS}", "trainer.limit_train_batches=4")


class Watch(Callback):
    """MiB after every epoch: what this process and its workers have written, each page once."""

    def __init__(self) -> None:
        self.mebibytes: list[float] = []

    def on_train_epoch_end(self, *_: object) -> None:
        children = Path("/proc/self/task").glob("*/children")
        family = ["self", *(pid for file in children for pid in file.read_text().split())]
        self.mebibytes.append(sum(written_kibibytes(pid) for pid in family) / 1024)


def written_kibibytes(process: str) -> int:
    """Its share: of a page that it shares with a worker, half. Pages of files that are only read
    are the system's cache."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Dirty"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(configuration(folder), Path(folder))
        watch = Watch()
        experiment.trainer.callbacks.append(watch)
        experiment.fit()
    settled, last = watch.mebibytes[10:20], watch.mebibytes[-10:]
    rows = [
        Row("epochs 11 to 20", tuple(settled)),
        Row("epochs 41 to 50", tuple(last), median(settled) / median(last), 0.98),
    ]
    note = (
        f"Drawn flowers, ResNet-18, 4 batches of 64 an epoch; at most {max(watch.mebibytes):.0f} "
        "MiB, workers included."
    )
    table = Table(
        f"{EPOCHS} short epochs with validation", COMMAND, "MiB", "epochs 11 to 20", rows, [note]
    )
    write("memory", [table])


if __name__ == "__main__":
    main()
