"""lookalike search: the images of a gallery that look like the given ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning import Trainer

from lookalike.checkpoint import Checkpoint, read_checkpoint, rebuild_classifier, rebuild_embedder
from lookalike.config import as_list, build, run_verb
from lookalike.data.checking import check_readable
from lookalike.data.reading import files_of, find_labelled, find_records, in_order
from lookalike.data.records import Records, check_class
from lookalike.errors import InputError
from lookalike.models.classifier import Classifier, check_same_classes, named_apart, predict
from lookalike.reports.matches import Answers, answers_sheet, print_answers, write_answers
from lookalike.retrieval.embeddings import embed
from lookalike.retrieval.lookup import Match, check_threshold, look_up
from lookalike.retrieval.vote import majority_vote


def search(config: DictConfig) -> int:
    """Answers every query; returns how many found something."""
    checkpoints = as_list(config.checkpoint)
    _check(config, checkpoints)
    first = read_checkpoint(checkpoints[0])
    queries = find_records(as_list(config.images))
    gallery = _gallery(config, first)
    classifiers = _classifiers(config, checkpoints, gallery)
    for records in (queries, gallery):
        check_readable(files_of(records))

    trainer: Trainer = build(config.trainer, logger=False, enable_checkpointing=False)
    places = _places(config, queries, classifiers, trainer)
    embedder = rebuild_embedder(first).to(trainer.strategy.root_device)
    transform = build(first.config["data"]["transform"]["test"])

    def features(records: Records, description: str) -> NDArray[np.float32]:
        return embed(
            embedder.unnormalised,
            in_order(records, transform, config.batch_size, config.num_workers),
            trainer.strategy.root_device,
            description,
        ).vectors

    found = _found(
        features(queries, "Embedding the queries"),
        features(gallery, "Embedding the gallery"),
        gallery,
        places,
        _own_rows(queries, gallery),
        config,
    )
    answers = Answers(queries, gallery, [place or "the whole gallery" for place in places], found)
    folder = Path(config.paths.run)
    print_answers(answers)
    write_answers(folder / "matches.csv", answers)
    answers_sheet(answers).save(folder / "matches.png")
    print(folder / "matches.csv", folder / "matches.png", sep="\n")
    return sum(bool(each) for each in found)


def _check(config: DictConfig, checkpoints: list[str]) -> None:
    if not checkpoints:
        raise InputError("give checkpoint=RUN/checkpoints/best.ckpt, or a list of them to vote")
    if config.within not in ("predicted", "all"):
        raise InputError(f"within={config.within} is not known; it is predicted or all")
    if config.k < 1:
        raise InputError(f"k={config.k}: need 1 or more")
    check_threshold(config.threshold)


def _gallery(config: DictConfig, checkpoint: Checkpoint) -> Records:
    """The folder or table that is given; otherwise a data set, by default the checkpoint's."""
    if config.gallery is not None:
        return find_labelled(config.gallery)
    data = config.data or checkpoint.config["data"]
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
    classifiers = named_apart([rebuild_classifier(file) for file in checkpoints])
    check_same_classes(classifiers)
    known = classifiers[0].class_names
    if not set(known) & set(gallery.class_names):
        raise InputError(
            f"the gallery has none of the classes that the checkpoint knows ({', '.join(known)}). "
            "Set within=all, or give a gallery of class folders."
        )
    return classifiers


def _places(
    config: DictConfig, queries: Records, classifiers: list[Classifier], trainer: Trainer
) -> list[str | None]:
    """The class in which each query is searched, None for the whole gallery."""
    if not classifiers:
        return [config["class"]] * len(queries)
    probabilities = [
        predict(
            each,
            queries,
            trainer.strategy.root_device,
            config.batch_size,
            config.num_workers,
        )
        for each in classifiers
    ]
    labels = majority_vote(np.stack(probabilities)).labels
    return [classifiers[0].class_names[label] for label in labels]


def _found(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    records: Records,
    places: list[str | None],
    own: NDArray[np.int64],
    config: DictConfig,
) -> list[list[Match]]:
    """The matches of every query, searched class by class."""
    found: list[list[Match]] = [[] for _ in places]
    for place in set(places):
        asking = [row for row, other in enumerate(places) if other == place]
        seen = np.arange(len(records))
        if place is not None:
            seen = np.flatnonzero(records.labels_as([place]) == 0)
        answers = look_up(queries[asking], gallery, seen, own[asking], config.k, config.threshold)
        for row, answer in zip(asking, answers, strict=True):
            found[row] = answer
    return found


def _own_rows(queries: Records, gallery: Records) -> NDArray[np.int64]:
    """The row of each query's own file in the gallery, -1 where it is not there."""
    row_of = {str(Path(path).resolve()): row for row, path in enumerate(gallery.paths)}
    return np.array([row_of.get(str(Path(path).resolve()), -1) for path in queries.paths])


if __name__ == "__main__":
    run_verb("search", search)
