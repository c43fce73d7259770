"""Writes the splits of the published tables: the part of each class, or image, in every fold.

python docs/benchmarks/splits.py docs/benchmarks/splits     (the sets below LOOKALIKE_DATA)
"""

import csv
import sys
from pathlib import Path

import hydra
import numpy as np

from lookalike.config import build, config_folder
from lookalike.data.records import Records
from lookalike.data.splits import assign_splits

SETS = {
    "flowers": ["data=flowers"],
    "dogs": ["data=dogs"],
    "furniture": ["data=furniture", "data.protocol=official"],
}


def rows(name: str) -> list[list[str]]:
    """A heading, then a line a class where classes are split, else a line an image."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        data = hydra.compose("train", SETS[name]).data
    records: Records = build(data.source).records()
    folds = range(data.folds)
    splits = [
        assign_splits(records, data.protocol, data.folds, fold, data.seed).splits for fold in folds
    ]
    if data.protocol == "zero_shot":
        head, names = "class_name", list(records.class_names)
        shown = np.unique(records.labels, return_index=True)[1]
    else:
        head, shown = "path", np.arange(len(records))
        names = [str(Path(path).relative_to(data.root)) for path in records.paths]
    lines = [
        [name, *(str(split[row]) for split in splits)]
        for name, row in zip(names, shown, strict=True)
    ]
    return [[head, *(f"fold_{fold}" for fold in folds)], *lines]


def main(folder: str) -> None:
    Path(folder).mkdir(exist_ok=True)
    for name in SETS:
        with (Path(folder) / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows(name))


if __name__ == "__main__":
    main(*sys.argv[1:])
