"""lookalike search: the images of a gallery that look like the given ones."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from lookalike.commands.networks import check_one_network, given_network
from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build
from lookalike.data.checking import readable
from lookalike.data.lists import excluded
from lookalike.data.measuring import MeasuredImages
from lookalike.data.records import Records, check_class, class_text
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.inference.classifier import Classifier, classifier_in, classify, with_unique_names
from lookalike.inference.images import find_labelled, find_records
from lookalike.inference.lookup import check_threshold
from lookalike.inference.network import Network, is_exported, trained_network
from lookalike.inference.places import moved
from lookalike.inference.search import check_classes_of, voted_classes
from lookalike.inference.search import search as search_gallery
from lookalike.losses.classifier import logits_of
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.reports.matches import matches_sheet, print_matches, write_matches
from lookalike.reports.sheet import save_sheet
from lookalike.retrieval.embeddings import embed

log = logging.getLogger(__name__)


def search(config: DictConfig) -> int:
    """Answers every query that can be read; returns how many found something."""
    engine: EmbeddingEngine = build(config.embedding)
    files = _in_pytorch(as_list(config.checkpoint))
    checkpoints = [read_checkpoint(file, as_list(config.trust)) for file in files]
    _check(config, checkpoints)
    device = find_device(config.device)
    network = _network(config, checkpoints)
    queries, gallery = find_records(as_list(config.images)), _gallery(config, checkpoints)
    classifiers = _classifiers(config, checkpoints, gallery)
    folder = Path(config.paths.run)
    queries = readable(queries, folder / "unreadable_queries.csv")
    gallery = readable(gallery, folder / "unreadable_gallery.csv")

    place = None if config["class"] is None else class_text(config["class"])
    places: list[str | None] = [place] * len(queries)
    if classifiers:
        settings = (device, config.batch_size, config.num_workers)
        places = list(voted_classes([classify(each, queries, *settings) for each in classifiers]))
    compute = engine.faster(network.embedder.to(device), "unnormalised")

    def features(records: Records) -> NDArray[np.float32]:
        images = MeasuredImages(
            records, {"test": network.view}, config.batch_size, config.num_workers
        )
        return embed(compute, images.loader(records.every_id), device).vectors

    results = search_gallery(features, queries, gallery, places, config.k, config.threshold)
    print_matches(results, config.k)
    write_matches(folder / "matches.csv", results)
    save_sheet(matches_sheet(results), folder / "matches.png")
    print(folder / "matches.csv", folder / "matches.png", sep="\n")
    return sum(bool(each) for each in results.found)


def _network(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> Network:
    """What embeds: the first of the checkpoints, which is read already, or what else is given."""
    first = as_list(config.checkpoint)[:1]
    return trained_network(checkpoints[0]) if _in_pytorch(first) else given_network(config)


def _in_pytorch(files: Sequence[str]) -> list[str]:
    """Checkpoints; exported networks are left out, which embed and classify nothing."""
    return [file for file in files if not is_exported(file)]


def _check(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> None:
    check_one_network(config)
    if not checkpoints and config.gallery is None and "source" not in config.data:
        raise InputError("give the images to search: gallery=<folder or table>, or data=<set>")
    if config.within not in ("predicted", "all", None):
        raise InputError(f"within={config.within} is not known; it is predicted, all or null")
    if config.k < 1:
        raise InputError(f"k={config.k}: need 1 or more")
    check_threshold(config.threshold)


def _gallery(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> Records:
    """The folder or table that is given; otherwise a data set, by default the checkpoint's."""
    if config.gallery is not None:
        return find_labelled(config.gallery)
    given: Any = OmegaConf.to_container(config.data, resolve=True)
    data = given if "source" in given else checkpoints[0].data()
    if given["root"] is not None and data is not given:
        data = moved(data, given["root"])
    source = build(data["source"])
    source.prepare()
    records: Records = source.records()
    kept = excluded(records, data.get("exclude"))
    return kept.of_classes(data["classes"]) if data.get("classes") else kept


def _classifiers(
    config: DictConfig, checkpoints: Sequence[Checkpoint], gallery: Records
) -> list[Classifier]:
    """Those that name the class to search; none where it is given, or everything is searched."""
    if config["class"] is not None:
        check_class(config["class"], gallery.class_names)
        return []
    if config.within == "all":
        return []
    if not checkpoints and config.within == "predicted":
        raise InputError("within=predicted needs checkpoints with a classifier; set within=all")
    if config.within is None and not (
        checkpoints and all(_can_choose(each, gallery) for each in checkpoints)
    ):
        log.info("The whole gallery is searched: nothing here names one of its classes.")
        return []
    classifiers = with_unique_names([classifier_in(each) for each in checkpoints])
    check_classes_of(gallery, classifiers)
    return classifiers


def _can_choose(checkpoint: Checkpoint, gallery: Records) -> bool:
    """Whether it has a classifier that knows a class of the gallery."""
    knows = set(checkpoint.class_names) & set(gallery.class_names)
    return bool(knows) and logits_of(checkpoint.loss()) is not None


if __name__ == "__main__":
    run_verb("search", search)
