"""Draws the picture of the README: test queries and their nearest images, untrained and trained.

python docs/neighbours.py outputs/train/<run>/checkpoints/best.ckpt docs/neighbours.jpg
"""

import sys
from copy import deepcopy

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

from lookalike.checkpoint import read_checkpoint, rebuild_embedder
from lookalike.config import build
from lookalike.data.datamodule import RetrievalData
from lookalike.data.decoding import read_image
from lookalike.experiment import open_data
from lookalike.models.embedder import Embedder
from lookalike.retrieval.embeddings import embed
from lookalike.retrieval.neighbours import Gallery, Neighbours

SIDE, FRAME, GAP = 84, 4, 18  # pixels
SHOWN = 5
RIGHT, WRONG, QUERY = "#2e9e4f", "#d0342c", "#ffffff"


def main(checkpoint_file: str, picture_file: str) -> None:
    checkpoint = read_checkpoint(checkpoint_file)
    data = open_data(OmegaConf.create(deepcopy(checkpoint.config)))
    pl.seed_everything(checkpoint.config["seed"], verbose=False)
    untrained = build(checkpoint.config["embedder"]).eval()
    found = [search(embedder, data) for embedder in (untrained, rebuild_embedder(checkpoint))]
    rows = np.random.default_rng(0).choice(len(found[0].ids), 8, replace=False)
    draw(data, found, rows).save(picture_file, quality=88)


def search(embedder: Embedder, data: RetrievalData) -> Neighbours:
    embeddings = embed(embedder, data.test_dataloader(), torch.device("cpu"))
    blocks = list(Gallery(embeddings).search(embeddings, SHOWN))
    columns = ("ids", "scores", "relevant", "n_relevant")
    return Neighbours(*(np.concatenate([getattr(b, name) for b in blocks]) for name in columns))


def draw(data: RetrievalData, found: list[Neighbours], rows: np.ndarray) -> Image.Image:
    """One line a query: itself, its nearest before training, its nearest after."""
    cell = SIDE + 2 * FRAME
    sheet = Image.new("RGB", (cell * (1 + 2 * SHOWN) + 2 * GAP, cell * len(rows) + 20), "white")
    pen = ImageDraw.Draw(sheet)
    titles = ("query", "nearest, untrained", "nearest, trained (unseen species)")
    for title, column in zip(titles, (0, 1, 1 + SHOWN), strict=True):
        pen.text((column * cell + min(column, 2) * GAP, 4), title, "black")
    queries = data.records.ids("test")
    for line, row in enumerate(rows):
        top = 20 + line * cell
        paste(sheet, data.records.paths[queries[row]], 0, top, QUERY)
        for part, neighbours in enumerate(found):
            for rank in range(SHOWN):
                left = (1 + part * SHOWN + rank) * cell + (1 + part) * GAP
                colour = RIGHT if neighbours.relevant[row, rank] else WRONG
                paste(sheet, data.records.paths[neighbours.ids[row, rank]], left, top, colour)
    return sheet


def paste(sheet: Image.Image, path: str, left: int, top: int, colour: str) -> None:
    framed = Image.new("RGB", (SIDE + 2 * FRAME,) * 2, colour)
    framed.paste(read_image(path).resize((SIDE, SIDE)), (FRAME, FRAME))
    sheet.paste(framed, (left, top))


if __name__ == "__main__":
    main(*sys.argv[1:])
