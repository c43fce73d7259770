"""lookalike duplicates: groups of images in an index that are nearly equal."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lookalike.commands.verb import run_verb
from lookalike.errors import InputError
from lookalike.inference.index import Index
from lookalike.inference.lookup import check_threshold
from lookalike.reports.duplicate_groups import groups_sheet, write_groups
from lookalike.reports.sheet import save_sheet
from lookalike.retrieval.near_copies import groups_around_best, near_pairs


def duplicates(config: DictConfig) -> int:
    """Lists what could be deleted; returns how many images that are."""
    if config.index is None:
        raise InputError("give an index: lookalike duplicates index=photos.index")
    check_threshold(config.threshold)
    index = Index.load(str(config.index), "cpu", config.root)
    sizes = index.items["file_size"].to_numpy()
    largest_first = np.lexsort((index.store.ids, -sizes))
    groups = groups_around_best(near_pairs(index.store.vectors, config.threshold), largest_first)
    groups.sort(key=lambda group: -max(group.similarities))
    count = sum(len(group.copies) for group in groups)
    print(f"{count} of {len(index)} images are near-duplicates of {len(groups)} others")
    if groups:
        folder = Path(config.paths.run)
        write_groups(folder / "duplicates.csv", index, groups)
        print(folder / "duplicates.csv")
        missing = index.missing()
        if missing:
            raise InputError(f"no sheet: {missing[0]} is missing. Give root=<folder of the images>")
        save_sheet(groups_sheet(index, groups), folder / "duplicates.png")
        print(folder / "duplicates.png")
    return count


if __name__ == "__main__":
    run_verb("duplicates", duplicates)
