"""The Reality Check benchmarks from the command line, on drawn images in the official layouts."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lookalike.data.sources.sop import SUPER_CLASSES

CLASSES, EACH = 24, 4  # so many that a batch of 32 with 4 images a class can be drawn


def picture(file: Path, label: int, number: int) -> None:
    """A class has a colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    colour = np.random.default_rng(label).integers(0, 256, 3)
    noise = np.random.default_rng((label, number)).normal(0, 40, (48, 40, 3))
    Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(file)


def draw_cub(root: Path) -> None:
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for label in range(1, CLASSES + 1):
        for number in range(EACH):
            image = len(lists["images"]) + 1
            name = f"{label:03d}.Bird_{label}/{number}.jpg"
            picture(root / "images" / name, label, number)
            lists["images"].append(f"{image} {name}")
            lists["image_class_labels"].append(f"{image} {label}")
            lists["train_test_split"].append(f"{image} {number % 2}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")


def draw_cars(root: Path) -> None:
    rows = []
    for label in range(1, CLASSES + 1):
        for number in range(EACH):
            name = f"car_ims/{len(rows) + 1:06d}.jpg"
            picture(root / name, label, number)
            rows.append((name, np.uint8(label), np.uint8(number % 2)))
    annotations = np.empty((1, len(rows)), dtype=[
        ("relative_im_path", object), ("class", object), ("test", object)
    ])  # fmt: skip
    annotations[0] = rows
    names = np.empty((1, CLASSES), dtype=object)
    names[0] = [f"Car {label}" for label in range(1, CLASSES + 1)]
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": names})


def draw_sop(root: Path) -> None:
    for split, first in (("train", 1), ("test", CLASSES // 2 + 1)):
        lines = ["image_id class_id super_class_id path"]
        for label in range(first, first + CLASSES // 2):
            group = label % len(SUPER_CLASSES)
            for number in range(EACH):
                path = f"{SUPER_CLASSES[group]}_final/{label}_{number}.JPG"
                picture(root / path, label, number)
                lines.append(f"{label * EACH + number} {label} {group + 1} {path}")
        (root / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "draw", "folds"), [("cub", draw_cub, 2), ("cars", draw_cars, 1), ("sop", draw_sop, 1)]
)
def test_only_the_images_are_missing(
    name: str, draw: Callable[[Path], None], folds: int, tmp_path: Path
) -> None:
    """All seven losses of the paper on its network, smaller and not pretrained, for a step."""
    root = tmp_path / name
    root.mkdir()
    draw(root)
    command = [
        sys.executable, "-m", "lookalike", "benchmark", f"benchmark=reality_check_{name}",
        f"data.root={root}", f"benchmark.folds={list(range(folds))}", "benchmark.seeds=[0,1]",
        "backbone.weights=null", "backbone.image_size=48", "batches_per_epoch=1",
        "trainer.max_epochs=1", "trainer=cpu", "data.num_workers=0",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = tmp_path / "outputs" / "benchmark" / f"reality_check_{name}" / "results.csv"
    rows = list(csv.DictReader(results.read_text().splitlines()))
    assert [row["runs"] for row in rows] == [str(2 * folds)] * 8  # a starting point, seven losses
    assert {row["test/map_at_r/test"] for row in rows} == {"mixed model", ""}
    notes = results.with_suffix(".md").read_text()
    assert "by a mixed model of seeds and queries, Holm-corrected for all pairs" in notes
    assert len(list(results.parent.glob("cells/*/queries.npz"))) == 8 * 2 * folds
