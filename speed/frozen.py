"""A head on a frozen backbone: epochs from images and from features that are kept.

    python speed/frozen.py --weights FILE

Oxford Flowers-102 below LOOKALIKE_DATA, zero-shot; FILE: MobileNetV2's ImageNet weights.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from composing import train_config
from omegaconf import DictConfig
from side_by_side import Row, Table, rows, write

from lookalike.training.experiment import Experiment

SEEDS, EPOCHS = (0, 1, 2), 5
COMMAND = "python speed/frozen.py --weights FILE"
IMAGES, FEATURES = "data.cache=none", "data.cache=features"
MONITORED = "val/map_at_r"


def configuration(folder: Path, cache: str, seed: int, weights: str) -> DictConfig:
    return train_config(
        folder,
        "data=flowers",
        "backbone=mobilenet_v2",
        f"backbone.weights={weights}",
        "backbone.image_size=160",
        "freeze=all",
        "learning_rate.head=1e-3",
        f"paths.cache={folder}",
        f"trainer.max_epochs={EPOCHS}",
        f"seed={seed}",
        cache,
    )


def fitted(cache: str, seed: int, weights: str, folder: Path) -> dict[str, float]:
    """Seconds an epoch of training, seconds before it, and the best validation score."""
    config = configuration(folder, cache, seed, weights)
    start = perf_counter()
    experiment = Experiment(config, folder / f"{cache}-{seed}")
    ready = perf_counter() - start
    best = experiment.fit()
    images = experiment.throughput.images / EPOCHS
    return {
        "epoch": experiment.throughput.seconds / EPOCHS * 3000 / images,
        "before": ready,
        MONITORED: best.scores[MONITORED],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {IMAGES: [], FEATURES: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            for cache, each in found.items():
                each.append(fitted(cache, seed, given.weights, Path(folder)))
                print(cache, seed, each[-1])

    def column(name: str) -> dict[str, tuple[float, ...]]:
        return {cache: tuple(run[name] for run in runs) for cache, runs in found.items()}

    epochs = column("epoch")
    title = f"Training a head on MobileNetV2, {EPOCHS} epochs, seeds {SEEDS}"
    once = f"{column('before')[FEATURES][0]:.0f} s before the first, to compute them once"
    before = f"1 s is asked for; {once}"
    seconds = rows(epochs, IMAGES, notes={FEATURES: before})
    ratio_of_a_second = median(epochs[IMAGES])  # that is what an epoch may take
    seconds[1] = Row(FEATURES, epochs[FEATURES], seconds[1].ratio, ratio_of_a_second, before)
    write(
        "frozen",
        [
            Table(f"{title}: an epoch of 3000 images", COMMAND, "s", IMAGES, seconds),
            Table(
                f"{title}: {MONITORED}",
                COMMAND,
                "MAP@R",
                IMAGES,
                rows(column(MONITORED), IMAGES, lower_is_better=False),
                ["Features are kept of 4 random views of each training image."],
            ),
        ],
    )


if __name__ == "__main__":
    main()
