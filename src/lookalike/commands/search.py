"""lookalike search: the images of a gallery that look like the given ones."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build, check_arguments, config_folder
from lookalike.data.checking import readable
from lookalike.data.images import Transform
from lookalike.data.lists import excluded
from lookalike.data.measuring import MeasuredImages
from lookalike.data.records import Records, check_class, class_text
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.inference.classifier import Classifier, classifier_in, classify, with_unique_names
from lookalike.inference.images import find_labelled, find_records
from lookalike.inference.lookup import check_threshold
from lookalike.inference.places import moved
from lookalike.inference.pretrained import pretrained_embedder
from lookalike.inference.search import check_classes_of, voted_classes
from lookalike.inference.search import search as search_gallery
from lookalike.losses.classifier import logits_of
from lookalike.models.embedder import Embedder
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.reports.matches import matches_sheet, print_matches, write_matches
from lookalike.reports.sheet import save_sheet
from lookalike.retrieval.embeddings import embed

log = logging.getLogger(__name__)


def search(config: DictConfig) -> int:
    """Answers every query that can be read; returns how many found something."""
    engine: EmbeddingEngine = build(config.embedding)
    checkpoints = [read_checkpoint(f, as_list(config.trust)) for f in as_list(config.checkpoint)]
    _check(config, checkpoints)
    device = find_device(config.device)
    embedder, view = _embedder(config, checkpoints)
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
    compute = engine.faster(embedder.to(device), "unnormalised")

    def features(records: Records) -> NDArray[np.float32]:
        images = MeasuredImages(records, {"test": view}, config.batch_size, config.num_workers)
        return embed(compute, images.loader(records.every_id), device).vectors

    results = search_gallery(features, queries, gallery, places, config.k, config.threshold)
    print_matches(results, config.k)
    write_matches(folder / "matches.csv", results)
    save_sheet(matches_sheet(results), folder / "matches.png")
    print(folder / "matches.csv", folder / "matches.png", sep="\n")
    return sum(bool(each) for each in results.found)


def _embedder(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> tuple[Embedder, Transform]:
    """What embeds, and how it sees an image: of the first checkpoint, or pretrained."""
    if checkpoints:
        return checkpoints[0].embedder(), checkpoints[0].transform()
    backbone: Any = config.backbone
    for name, model in config.model.items():
        backbone = OmegaConf.merge(OmegaConf.load(_backbone_file(name)), {"weights": model.weights})
    if backbone.get("weights") is None:
        raise InputError(
            "backbone.weights=null is a random network, which finds nothing. Give a file or the "
            "name of pretrained weights, such as backbone.weights=IMAGENET1K_V1 (timm: pretrained)."
        )
    check_arguments(backbone)
    return pretrained_embedder(build(backbone), build(config.pooling))


def _backbone_file(name: str) -> Path:
    file = config_folder() / "backbone" / f"{name}.yaml"
    if not file.is_file():
        raise InputError(f"model={name} is no backbone; give backbone=... and backbone.weights=...")
    return file


def _check(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> None:
    given = [bool(checkpoints), bool(config.model), bool(config.backbone)]
    if sum(given) != 1 or len(config.model) > 1:
        raise InputError(
            "give what embeds the images, one of: checkpoint=RUN/checkpoints/best.ckpt (or a list, "
            "to vote), model=mobilenet_v2, or backbone=timm backbone.name=... backbone.weights=..."
        )
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
