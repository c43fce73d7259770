"""lookalike export: an embedder with its preprocessing as one file for other programs."""

import logging
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lookalike.commands.networks import given_network
from lookalike.commands.verb import run_verb
from lookalike.config import as_list
from lookalike.data.checking import readable
from lookalike.data.records import Records
from lookalike.errors import InputError, did_you_mean
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.export import ENDINGS, exported, write_exported
from lookalike.inference.images import find_labelled
from lookalike.inference.int8 import Measuring, in_int8, spread
from lookalike.inference.network import is_exported
from lookalike.inference.places import moved
from lookalike.inference.testing import split_images

log = logging.getLogger(__name__)

COMPARED = 64  # images
BATCH = 21  # so that the last one has a single image
PRECISIONS = ("float32", "int8")


def export(config: DictConfig) -> Path:
    """Writes the file once it agrees with PyTorch; returns its path."""
    file = _file(config)
    network = given_network(config)
    choosing, testing = _images(config)
    folder = Path(config.paths.run)
    compared = readable(spread(testing, COMPARED), folder / "unreadable.csv")
    batches = Measuring(network.view, config.num_workers).batches(compared, BATCH)
    log.info("Exporting %s as %s.", network.name, config.format)
    content, apart = exported(network, config.format, batches)
    print(f"largest difference from PyTorch: {apart:.1e} of a vector, on {len(compared)} images")
    if config.precision == "int8":
        log.info("Quantising it in two ways.")
        choosing = readable(choosing, folder / "unreadable_choosing.csv")
        testing = readable(testing, folder / "unreadable.csv")
        content, cost = in_int8(network, content, choosing, testing, config.num_workers)
        print(f"int8, {cost.kind}: {cost}")
    write_exported(file, content)
    print(f"{file} ({len(content) / 1e6:.1f} MB)")
    return file


def _file(config: DictConfig) -> Path:
    """Where to write, by the format.

    Raises:
        InputError: there is no such format or precision, or the file's name does not fit.
    """
    for name, known in (("format", tuple(ENDINGS)), ("precision", PRECISIONS)):
        if config[name] not in known:
            hint = did_you_mean(str(config[name]), known)
            raise InputError(f"{name}={config[name]} is none of {', '.join(known)}.{hint}")
    if config.precision == "int8" and config.format != "onnx":
        raise InputError("precision=int8 needs format=onnx")
    ending = ENDINGS[config.format]
    file = Path(config.out or Path(config.paths.run) / f"embedder{ending}")
    if file.suffix.lower() != ending:
        raise InputError(f"out={file}: the name of such a file ends in {ending}")
    return file


def _images(config: DictConfig) -> tuple[Records, Records]:
    """Images to choose with, and others to measure with."""
    if config.images is not None:
        return _halves(find_labelled(str(config.images)))
    files = as_list(config.checkpoint)
    if not files or is_exported(files[0]):
        raise InputError(
            "give images=<folder or table>, on which the file is compared with PyTorch"
        )
    data = read_checkpoint(files[0], as_list(config.trust)).data()
    records = split_images(moved(data, config.data.root) if config.data.root else data)
    chosen, tested = records.ids("val"), records.ids("test")
    if not len(chosen) or not len(tested):
        return _halves(records.at(tested if len(tested) else records.every_id))
    return records.at(chosen), records.at(tested)


def _halves(records: Records) -> tuple[Records, Records]:
    """Every second image, and the others; a single image is both."""
    odd = np.arange(len(records)) % 2 == 1
    return (records.at(np.flatnonzero(odd)) if odd.any() else records), records.at(
        np.flatnonzero(~odd)
    )


if __name__ == "__main__":
    run_verb("export", export)
