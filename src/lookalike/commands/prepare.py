"""lookalike prepare: fetch or draw a data set, and open every image of it once."""

import os
from concurrent.futures import ThreadPoolExecutor

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from lookalike.config import build, run_verb
from lookalike.data.decoding import read_image
from lookalike.data.records import Records
from lookalike.errors import InputError


def prepare(config: DictConfig) -> int:
    """Makes a data set ready; returns how many images it has.

    Raises:
        InputError: with every image that can't be read.
    """
    source = build(config.data.source)
    source.prepare()
    records: Records = source.records()
    unreadable = _unreadable(records)
    if unreadable:
        listing = "\n  ".join(unreadable)
        raise InputError(
            f"{len(unreadable)} of {len(records)} images can't be read; mend or remove them:\n"
            f"  {listing}"
        )
    Console().print(
        f"{len(records)} images of {records.num_classes} classes, all readable: {config.data.root}"
    )
    return len(records)


def _unreadable(records: Records) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the interpreter's lock
        checks = pool.map(_problem, records.paths)
        found = list(track(checks, "Opening every image", total=len(records)))
    return [problem for problem in found if problem]


def _problem(path: str) -> str:
    try:
        read_image(path)
    except InputError as error:
        return f"{path} ({error.__cause__})"
    return ""


if __name__ == "__main__":
    run_verb("prepare", prepare)
