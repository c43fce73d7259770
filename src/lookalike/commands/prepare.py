"""lookalike prepare: fetch or draw a data set, open every image of it, and look for duplicates."""

import logging
import os
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lookalike.command_line import command
from lookalike.commands.verb import about_data, run_verb
from lookalike.config import as_list, build
from lookalike.data.checking import described, problems_of, write_problems
from lookalike.data.duplicates import (
    exact_duplicates,
    near_duplicates,
    summary,
    write_duplicates,
)
from lookalike.data.images import files_of
from lookalike.data.lists import excluded
from lookalike.data.measurable import check_measurable, check_trainable
from lookalike.data.records import Records
from lookalike.data.splits import split_records
from lookalike.errors import InputError

log = logging.getLogger(__name__)


def prepare(config: DictConfig) -> int:
    """Makes a data set ready; returns how many images it has.

    Raises:
        InputError: with every image that can't be read.
    """
    source = build(config.data.source)
    source.prepare()
    records = _split(source.records(), config.data)
    folder = Path(os.path.relpath(config.paths.run))  # short enough to be copied
    problems = problems_of(files_of(records))
    whole = [row for row in range(len(records)) if row not in problems]
    if whole:
        _report_duplicates(records.at(np.array(whole)), folder, config.near_duplicates)
    if problems:
        listing = folder / "unreadable.csv"
        write_problems(listing, records, problems)
        raise InputError(
            f"{described(records, problems)}\nFix or remove them, or train without them: "
            f"{command('train', *about_data(), f'data.exclude={listing}')}"
        )
    place = config.data.root or config.data.source.file
    print(f"{len(records)} images of {records.num_classes} classes, all readable: {place}")
    given = about_data()
    if len(records.ids("train")) or not len(records.ids("test")):
        print("\nNext:", command("train", *given))
    else:
        print("\nThese images are a test set. Next, with a trained network:")
        print(command("evaluate", "checkpoint=RUN/checkpoints/best.ckpt", *given))
    return len(records)


def _split(records: Records, data: DictConfig) -> Records:
    """The records as `train` would split them; unsplit, with a word, where it could not."""
    kept = excluded(records, as_list(data.exclude))
    classes = None if data.classes is None else as_list(data.classes)
    try:
        split = split_records(kept, classes, data.protocol, data.folds, data.fold, seed=data.seed)
        if len(split.ids("train")):
            check_trainable(split, data.holdout, data.folds)
        else:
            check_measurable(split, "test", data.folds)
        return split
    except InputError as error:
        log.warning("With these settings train would stop: %s", error)
        return kept


def _report_duplicates(records: Records, folder: Path, near: bool) -> None:
    duplicates = near_duplicates(records) if near else exact_duplicates(records)
    if not duplicates:
        print("no duplicates")
        return
    file = folder / "duplicates.csv"
    write_duplicates(file, records, duplicates)
    print(
        f"{summary(records, duplicates)}. The list, and the first image of each: {file}\n"
        f"To train without them: {command('train', *about_data(), f'data.exclude={file}')}"
    )


if __name__ == "__main__":
    run_verb("prepare", prepare)
