"""lookalike search: the images of a gallery that look like the given ones."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build
from lookalike.data.checking import check_readable
from lookalike.data.images import files_of
from lookalike.data.measuring import MeasuredImages
from lookalike.data.records import Records, check_class
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.inference.classifier import Classifier, classifier_in, classify, with_unique_names
from lookalike.inference.images import find_labelled, find_records
from lookalike.inference.lookup import check_threshold
from lookalike.inference.search import check_classes_of, voted_classes
from lookalike.inference.search import search as search_gallery
from lookalike.losses.classifier import logits_of
from lookalike.reports.matches import matches_sheet, print_matches, write_matches
from lookalike.retrieval.embeddings import embed

log = logging.getLogger(__name__)


def search(config: DictConfig) -> int:
    """Answers every query; returns how many found something."""
    checkpoints = as_list(config.checkpoint)
    _check(config, checkpoints)
    device = find_device(config.device)
    first = read_checkpoint(checkpoints[0], as_list(config.trust))
    queries, gallery = find_records(as_list(config.images)), _gallery(config, first)
    classifiers = _classifiers(config, checkpoints, gallery)
    for records in (queries, gallery):
        check_readable(files_of(records))

    places: list[str | None] = [config["class"]] * len(queries)
    if classifiers:
        settings = (device, config.batch_size, config.num_workers)
        places = list(voted_classes([classify(each, queries, *settings) for each in classifiers]))
    embedder, views = first.embedder().to(device), {"test": first.transform()}

    def features(records: Records) -> NDArray[np.float32]:
        images = MeasuredImages(records, views, config.batch_size, config.num_workers)
        return embed(embedder.unnormalised, images.loader(records.every_id), device).vectors

    results = search_gallery(features, queries, gallery, places, config.k, config.threshold)
    folder = Path(config.paths.run)
    print_matches(results)
    write_matches(folder / "matches.csv", results)
    matches_sheet(results).save(folder / "matches.png")
    print(folder / "matches.csv", folder / "matches.png", sep="\n")
    return sum(bool(each) for each in results.found)


def _check(config: DictConfig, checkpoints: list[str]) -> None:
    if not checkpoints:
        raise InputError("give checkpoint=RUN/checkpoints/best.ckpt, or a list of them to vote")
    if config.within not in ("predicted", "all", None):
        raise InputError(f"within={config.within} is not known; it is predicted, all or null")
    if config.k < 1:
        raise InputError(f"k={config.k}: need 1 or more")
    check_threshold(config.threshold)


def _gallery(config: DictConfig, checkpoint: Checkpoint) -> Records:
    """The folder or table that is given; otherwise a data set, by default the checkpoint's."""
    if config.gallery is not None:
        return find_labelled(config.gallery)
    given: Any = OmegaConf.to_container(config.data, resolve=True)
    data = given or checkpoint.data()
    source = build(data["source"])
    source.prepare()
    records: Records = source.records()
    return records.of_classes(data["classes"]) if data.get("classes") else records


def _classifiers(config: DictConfig, checkpoints: list[str], gallery: Records) -> list[Classifier]:
    """Those that name the class to search; none where it is given, or everything is searched."""
    if config["class"] is not None:
        check_class(config["class"], gallery.class_names)
        return []
    if config.within == "all":
        return []
    files = [read_checkpoint(file, as_list(config.trust)) for file in checkpoints]
    if config.within is None and not all(_can_choose(each, gallery) for each in files):
        log.info("The whole gallery is searched: the checkpoint names none of its classes.")
        return []
    classifiers = with_unique_names([classifier_in(each) for each in files])
    check_classes_of(gallery, classifiers)
    return classifiers


def _can_choose(checkpoint: Checkpoint, gallery: Records) -> bool:
    """Whether it has a classifier that knows a class of the gallery."""
    knows = set(checkpoint.class_names) & set(gallery.class_names)
    return bool(knows) and logits_of(checkpoint.loss()) is not None


if __name__ == "__main__":
    run_verb("search", search)
