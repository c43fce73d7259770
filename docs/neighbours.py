"""Draws the picture of the README: test queries and their nearest images, untrained and trained.

python docs/neighbours.py outputs/train/<run>/checkpoints/best.ckpt docs/neighbours.jpg
"""

import sys
from copy import deepcopy

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image

from lookalike.config import build
from lookalike.data.datamodule import RetrievalData
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.models.embedder import Embedder
from lookalike.reports.sheet import Tile, contact_sheet
from lookalike.retrieval.embeddings import embed
from lookalike.retrieval.neighbours import Gallery, Neighbours
from lookalike.training.experiment import open_data

SIDE = 84  # pixels
SHOWN = 5


def main(checkpoint_file: str, picture_file: str) -> None:
    checkpoint = read_checkpoint(checkpoint_file)
    data = open_data(OmegaConf.create(deepcopy(checkpoint.config)))
    pl.seed_everything(checkpoint.config["seed"], verbose=False)
    untrained = build(checkpoint.config["embedder"]).eval()
    found = [search(embedder, data) for embedder in (untrained, checkpoint.embedder())]
    rows = np.random.default_rng(0).choice(len(found[0].ids), 8, replace=False)
    draw(data, found, rows).save(picture_file, quality=88)


def search(embedder: Embedder, data: RetrievalData) -> Neighbours:
    embeddings = embed(embedder, data.test_dataloader(), torch.device("cpu"))
    blocks = list(Gallery(embeddings).search(embeddings, SHOWN))
    columns = ("ids", "scores", "relevant", "n_relevant")
    return Neighbours(*(np.concatenate([getattr(b, name) for b in blocks]) for name in columns))


def draw(data: RetrievalData, found: list[Neighbours], rows: np.ndarray) -> Image.Image:
    """One line a query: itself, its nearest before training, its nearest after."""
    paths, queries = data.records.paths, data.records.ids("test")
    lines = []
    for row in rows:
        line: list[Tile | None] = [Tile(paths[queries[row]], ("query",))]
        for title, neighbours in zip(("untrained", "trained"), found, strict=True):
            line.append(None)
            for rank in range(SHOWN):
                right = bool(neighbours.relevant[row, rank])
                line.append(Tile(paths[neighbours.ids[row, rank]], (f"{title} {rank + 1}",), right))
        lines.append(line)
    return contact_sheet(lines, SIDE)


if __name__ == "__main__":
    main(*sys.argv[1:])
