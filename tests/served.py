"""A small index to serve: drawn images in four classes, with prices, and a random network."""

import csv
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

from conftest import CHECKOUT
from lookalike.inference.index import Index
from lookalike.inference.pretrained import pretrained_content

COLOURS = ("crimson", "seagreen", "royalblue", "goldenrod")
PER_CLASS = 20


def draw(colour: str, number: int) -> Image.Image:
    """A disc on a ground of its own; number 1 is as number 0."""
    rng = np.random.default_rng(max(1, number))
    red, green, blue = rng.integers(0, 256, 3).tolist()
    image = Image.new("RGB", (64, 48), (red, green, blue))
    x, y, size = (int(value) for value in rng.integers(8, 20, 3))
    ImageDraw.Draw(image).ellipse((x, y, x + size + 12, y + size + 6), fill=colour)
    return image


def build_index(folder: Path, name: str = "shapes", kernel: int = 3) -> Index:
    """4 x 20 images, built with a tiny random network."""
    rows = []
    for place, colour in enumerate(COLOURS):
        for number in range(PER_CLASS):
            file = folder / "images" / colour / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(colour, number).save(file)
            rows.append((file, colour, 10 * place + number, "even" if number % 2 == 0 else "odd"))
    table = folder / "images.csv"
    with open(table, "w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "price", "kind"), *rows])
    torch.manual_seed(kernel)
    conf = CHECKOUT / "tests" / "conf" / "backbone" / "tiny.yaml"
    backbone = OmegaConf.to_container(OmegaConf.load(conf))
    assert isinstance(backbone, dict)
    backbone["network"]["kernel_size"] = kernel
    pooling = {"_target_": "lookalike.models.pooling.AveragePooling"}
    return Index.build(table, folder / name, pretrained_content(backbone, pooling), device="cpu")  # type: ignore[arg-type]
