"""lookalike search: the images of a gallery or an index that look like the given ones."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import torch
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
from lookalike.inference.asking import Question
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.inference.classifier import Classifier, classifier_in, classify, with_unique_names
from lookalike.inference.database_index import DatabaseIndex, in_database
from lookalike.inference.database_search import search_database
from lookalike.inference.images import find_labelled, find_records
from lookalike.inference.index import Index
from lookalike.inference.index_search import check_same_network, search_index, together
from lookalike.inference.lookup import check_threshold
from lookalike.inference.network import Network, is_exported, trained_network
from lookalike.inference.places import moved
from lookalike.inference.search import SearchResults, check_classes_of, not_here, voted_classes
from lookalike.inference.search import search as search_gallery
from lookalike.losses.classifier import logits_of
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.reports.matches import (
    matches_sheet,
    print_matches,
    write_matches,
    write_matches_json,
)
from lookalike.reports.sheet import save_sheet
from lookalike.retrieval.embeddings import embed
from lookalike.retrieval.rerank import NoReranking

pc: Any = pyarrow.compute  # its functions are made at run time

log = logging.getLogger(__name__)

Features = Callable[[Records], NDArray[np.float32]]
OF_AN_INDEX = ("where", "negatives", "combine", "fold_duplicates")  # keys that need one


def search(config: DictConfig) -> int:
    """Answers every query that can be read; returns how many found something."""
    build(config.embedding)  # an engine that is not there is told of before anything is read
    files = _in_pytorch(as_list(config.checkpoint))
    checkpoints = [read_checkpoint(file, as_list(config.trust)) for file in files]
    _check(config, checkpoints)
    results = (_in_index if config.index else _in_gallery)(config, checkpoints)
    folder = Path(config.paths.run)
    print_matches(results, config.k)
    write_matches(folder / "matches.csv", results)
    write_matches_json(folder / "matches.json", results)
    written = ["csv", "json"]
    if missing := not_here(results):
        log.warning("There is no sheet of images: %s is not on this machine.", missing)
    else:
        save_sheet(matches_sheet(results), folder / "matches.png")
        written.append("png")
    print(*(folder / f"matches.{kind}" for kind in written), sep="\n")
    return sum(bool(each) for each in results.found)


def _network(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> Network:
    """What embeds: the first of the checkpoints, which is read already, or what else is given."""
    first = as_list(config.checkpoint)[:1]
    if not _in_pytorch(first) or config.length is not None:
        return given_network(config)
    return trained_network(checkpoints[0])


def _asking(config: DictConfig, checkpoints: Sequence[Checkpoint], kept: Network) -> Network:
    """What embeds the queries of an index: what is given, cut to the length of its vectors."""
    if not config.checkpoint:
        return kept
    if checkpoints and kept.checkpoint:
        return trained_network(checkpoints[0].shortened(kept.checkpoint.length))
    return _network(config, checkpoints)


def _in_pytorch(files: Sequence[str]) -> list[str]:
    """Checkpoints; exported networks are left out, which embed and classify nothing."""
    return [file for file in files if not is_exported(file)]


def _in_gallery(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> SearchResults:
    """Embeds the gallery, too."""
    device = find_device(config.device)
    features = _features(config, _network(config, checkpoints), device)
    queries, gallery = find_records(as_list(config.images)), _gallery(config, checkpoints)
    classifiers = _classifiers(config, checkpoints, gallery.class_names)
    queries = readable(queries, Path(config.paths.run) / "unreadable_queries.csv")
    gallery = readable(gallery, Path(config.paths.run) / "unreadable_gallery.csv")
    places = _places(config, classifiers, queries, device)
    return search_gallery(features, queries, gallery, places, config.k, config.threshold)


def _in_index(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> SearchResults:
    with closing(_index(config)) as index:
        return _answered(config, checkpoints, index)


def _answered(
    config: DictConfig, checkpoints: Sequence[Checkpoint], index: Index | DatabaseIndex
) -> SearchResults:
    network = _asking(config, checkpoints, index.network)
    check_same_network(index.info(), network)
    if not checkpoints and network.checkpoint:
        checkpoints = [network.checkpoint]
    rerank = build(config.evaluation.rerank)
    question = Question(
        config.k, config.where, config.threshold, config.fold_duplicates,
        None if isinstance(rerank, NoReranking) else rerank,
    )  # fmt: skip
    listing = Path(config.paths.run) / "unreadable_queries.csv"
    queries = readable(find_records(as_list(config.images)), listing)
    features_of = _features(config, network, index.device)
    features = features_of(queries)
    classifiers = _classifiers_for(config, checkpoints, index)
    places = _places(config, classifiers, queries, index.device)
    if config.combine or config.negatives:
        unwanted = features_of(find_records(as_list(config.negatives))) if config.negatives else []
        queries, features = together(queries, features, np.array(unwanted))
        places = places[:1]
    if isinstance(index, DatabaseIndex):
        return search_database(index, queries, features, places, question)
    results = search_index(index, queries, features, places, question)
    if "vectors" not in index.store.generation.about:  # those may be of tars, or of other machines
        for path in results.gallery.paths.tolist():
            index.check_there(Path(path))
    return results


def _index(config: DictConfig) -> Index | DatabaseIndex:
    trust = as_list(config.trust)
    if in_database(config.index):
        return DatabaseIndex.load(config.index, config.device, trust)
    return Index.load(config.index, config.device, config.data.root, trust)


def _classifiers_for(
    config: DictConfig, checkpoints: Sequence[Checkpoint], index: Index | DatabaseIndex
) -> list[Classifier]:
    if isinstance(index, Index):
        names = pc.unique(index.items["class"]).to_pylist()
        return _classifiers(config, checkpoints, names)
    if config.within == "predicted":
        raise InputError("a database does not tell its classes: give class=<name> or within=all")
    return []


def _features(config: DictConfig, network: Network, device: torch.device) -> Features:
    """Records -> features (N, D), not normalised."""
    engine: EmbeddingEngine = build(config.embedding)
    compute = engine.faster(network.embedder.to(device), "unnormalised")

    def features(records: Records) -> NDArray[np.float32]:
        workers = 0 if len(records) <= config.batch_size else config.num_workers
        images = MeasuredImages(records, {"test": network.view}, config.batch_size, workers)
        return embed(compute, images.loader(records.every_id), device).vectors

    return features


def _places(
    config: DictConfig,
    classifiers: Sequence[Classifier],
    queries: Records,
    device: torch.device,
) -> list[str | None]:
    """For each query the class to search, None for everything."""
    if classifiers:
        settings = (device, config.batch_size, config.num_workers)
        return list(voted_classes([classify(each, queries, *settings) for each in classifiers]))
    place = None if config["class"] is None else class_text(config["class"])
    return [place] * len(queries)


def _check(config: DictConfig, checkpoints: Sequence[Checkpoint]) -> None:
    if config.index and config.length is not None:
        raise InputError(
            f"length={config.length}: an index has a length of its own. Leave it out, or build an "
            "index with it."
        )
    if config.index:
        if config.model or config.backbone or config.gallery is not None:
            raise InputError("index= has its own network and images: leave out model=, backbone= "
                             "and gallery=")  # fmt: skip
    else:
        check_one_network(config)
        if not checkpoints and config.gallery is None and "source" not in config.data:
            raise InputError("give the images to search: index=<index>, gallery=<folder or table>, "
                             "or data=<set>")  # fmt: skip
        needing = [key for key in OF_AN_INDEX if config[key]]
        if needing or not isinstance(build(config.evaluation.rerank), NoReranking):
            raise InputError(
                f"{(needing or ['rerank'])[0]}= needs an index. Build one: lookalike index build "
                "images=photos out=photos.index model=mobilenet_v2"
            )
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
    kept = kept.of_classes(data["classes"]) if data.get("classes") else kept
    log.info("The gallery: %d images of %s", len(kept), data["root"] or "the checkpoint's data set")
    return kept


def _classifiers(
    config: DictConfig, checkpoints: Sequence[Checkpoint], class_names: Sequence[str]
) -> list[Classifier]:
    """Those that name the class to search; none where it is given, or everything is searched."""
    if config["class"] is not None:
        check_class(config["class"], class_names)
        return []
    if config.within == "all":
        return []
    if not checkpoints and config.within == "predicted":
        raise InputError("within=predicted needs checkpoints with a classifier; set within=all")
    if config.within is None and not (
        checkpoints and all(_can_choose(each, class_names) for each in checkpoints)
    ):
        log.info(
            "All classes of the gallery are searched: class= is not given, and the network has no "
            "classifier of them."
        )
        return []
    classifiers = with_unique_names([classifier_in(each) for each in checkpoints])
    check_classes_of(class_names, classifiers)
    return classifiers


def _can_choose(checkpoint: Checkpoint, class_names: Sequence[str]) -> bool:
    """Whether it has a classifier that knows a class of the gallery."""
    knows = set(checkpoint.class_names) & set(class_names)
    return bool(knows) and logits_of(checkpoint.loss()) is not None


if __name__ == "__main__":
    run_verb("search", search)
