"""lookalike prepare: fetch or draw a data set, and open every image of it once."""

from omegaconf import DictConfig
from rich.console import Console

from lookalike.commands.verb import run_verb
from lookalike.config import build
from lookalike.data.checking import check_readable
from lookalike.data.images import ImageFiles
from lookalike.data.records import Records


def prepare(config: DictConfig) -> int:
    """Makes a data set ready; returns how many images it has.

    Raises:
        InputError: with every image that can't be read.
    """
    source = build(config.data.source)
    source.prepare()
    records: Records = source.records()
    check_readable(ImageFiles(records.paths, boxes=records.boxes))
    Console().print(
        f"{len(records)} images of {records.num_classes} classes, all readable: {config.data.root}"
    )
    return len(records)


if __name__ == "__main__":
    run_verb("prepare", prepare)
