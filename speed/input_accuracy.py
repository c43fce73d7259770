"""Whether reading images faster costs accuracy: the same training through three input pipelines.

    python speed/input_accuracy.py --weights FILE

Oxford Flowers-102 from LOOKALIKE_DATA, upscaled to photographs as in input.py, is trained on and
tested, zero-shot, with Pillow and torchvision's transforms for PIL images, with scaled decoding
and crops of uint8 tensors, and from the cache of decoded images. FILE: MobileNetV2's ImageNet
weights.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from composing import train_config
from input import enlarge
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.progress import track
from side_by_side import Table, rows, write
from torchvision import transforms

from lookalike.data.datamodule import RetrievalData
from lookalike.data.images import Images
from lookalike.data.measuring import MeasuredImages
from lookalike.data.transforms import EachImage
from lookalike.training.experiment import Experiment

SEEDS = (0, 1, 2)
METRICS = ("test/recall_at_1", "test/map_at_r")
COMMAND = "python speed/input_accuracy.py --weights FILE"
USUAL, FILES, DISK = "PIL + torchvision v1", "lookalike, files", "lookalike, data.cache=disk"
SIZES = {"train": 128, "test": 160}


class PillowFiles:
    """Whole pictures, as Pillow decodes them."""

    def __init__(self, paths: np.ndarray) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Image.Image:
        with Image.open(self.paths[row]) as image:
            return image.convert("RGB")


class PillowImages(MeasuredImages):
    """The same records, read by Pillow whatever the view."""

    def images(self, view: str) -> Images:
        return PillowFiles(self.records.paths)


class UsualData(RetrievalData):
    """The same records and batches through the usual pipeline."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.transform = {"train": EachImage(usual_train()), "test": EachImage(usual_test())}
        self._measured = PillowImages(
            self.records, self.transform, self.eval_batch_size, self.num_workers
        )


def usual_train() -> transforms.Compose:
    crop = transforms.RandomResizedCrop(SIZES["train"], scale=(0.25, 1))
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])


def usual_test() -> transforms.Compose:
    crop = transforms.CenterCrop(SIZES["test"])
    return transforms.Compose([transforms.Resize(SIZES["test"]), crop, transforms.PILToTensor()])


def configuration(folder: Path, name: str, seed: int, weights: str) -> DictConfig:
    """Of one training run through one pipeline."""
    config = train_config(
        folder,
        "experiment=flowers_losses",
        "loss=multi_similarity",
        "miner=multi_similarity",
        f"backbone.weights={weights}",
        f"paths.data={folder}",
        f"paths.cache={folder}/cache",
        f"seed={seed}",
        "trainer.max_epochs=1",
        f"data.cache={'disk' if name == DISK else 'none'}",
    )
    if name == USUAL:
        OmegaConf.update(config, "data._target_", "input_accuracy.UsualData")
    return config


def scores(name: str, seed: int, weights: str, folder: Path) -> dict[str, float]:
    """Of one training run through one pipeline, in this process."""
    experiment = Experiment(configuration(folder, name, seed, weights), folder / "run")
    best = experiment.fit()
    return best.scores | experiment.test(best)


def upscaled(folder: Path) -> None:
    """A copy of the data set with large pictures, below `folder`."""
    source = Path(train_config(folder, "data=flowers").data.root)
    target = folder / source.name
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.jpg"))
    files = sorted(source.rglob("*.jpg"))
    with ThreadPoolExecutor() as pool:
        made = pool.map(lambda file: enlarge(file, target / file.relative_to(source)), files)
        for _ in track(made, "Upscaling", len(files), transient=True):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, seed, folder = given.one
        print(json.dumps(scores(name, int(seed), given.weights, Path(folder))))
        return
    found: dict[str, list[dict[str, float]]] = {USUAL: [], FILES: [], DISK: []}
    with tempfile.TemporaryDirectory() as folder:
        upscaled(Path(folder))
        for seed in SEEDS:
            for name, each in found.items():
                command = [sys.executable, __file__, "--weights", given.weights]
                command += ["--one", name, str(seed), folder]
                run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                each.append(json.loads(run.stdout.strip().rpartition("\n")[2]))
                print(name, seed, {key: each[-1][key] for key in METRICS})
    write("input_accuracy", [table(metric, found) for metric in METRICS])


def table(metric: str, found: dict[str, list[dict[str, float]]]) -> Table:
    values = {name: tuple(each[metric] for each in runs) for name, runs in found.items()}
    return Table(
        f"{metric} on Flowers at 500 px, seeds {SEEDS}",
        COMMAND,
        metric.removeprefix("test/"),
        USUAL,
        rows(values, USUAL, lower_is_better=False),
        ["One epoch of multi-similarity, MobileNetV2, one centre crop when measuring."],
    )


if __name__ == "__main__":
    main()
