"""lookalike classify: name what is on any images, with ImageNet's models or trained ones."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build
from lookalike.data.checking import readable
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.inference.classifier import (
    Classifier,
    check_same_classes,
    load_classifier,
    with_unique_names,
)
from lookalike.inference.classifier import classify as predict
from lookalike.inference.imagenet import imagenet_classifier
from lookalike.inference.images import find_records
from lookalike.inference.vote import majority_vote
from lookalike.reports.predictions import (
    predictions_sheet,
    print_predictions,
    write_predictions,
)
from lookalike.reports.sheet import save_sheet


def classify(config: DictConfig) -> list[str]:
    """The class of every image that can be read: the vote's, or the first model's without one."""
    if config.top < 1:
        raise InputError(f"top={config.top}: need 1 or more classes to show")
    device = find_device(config.device)
    found = find_records(as_list(config.images))
    classifiers = _classifiers(config)
    voting = bool(config.vote) and len(classifiers) > 1
    if voting:
        check_same_classes(classifiers)
    folder = Path(config.paths.run)
    records = readable(found, folder / "unreadable.csv")
    predictions = [
        predict(each, records, device, config.batch_size, config.num_workers)
        for each in classifiers
    ]
    vote = majority_vote(np.stack([p.probabilities for p in predictions])) if voting else None
    print_predictions(records, predictions, vote, config.top)
    write_predictions(folder / "predictions.csv", records, predictions, vote, config.top)
    sheet = predictions_sheet(records, predictions, vote, config.top)
    save_sheet(sheet, folder / "predictions.png")
    print(folder / "predictions.csv", folder / "predictions.png", sep="\n")
    chosen = vote.labels if vote else predictions[0].probabilities.argmax(1)
    return [predictions[0].class_names[label] for label in chosen]


def _classifiers(config: DictConfig) -> list[Classifier]:
    checkpoints = as_list(config.checkpoint)
    named = list(build(config.model).values())
    if not named and not checkpoints:
        named = [imagenet_classifier("mobilenet_v2", "IMAGENET1K_V2")]
    return with_unique_names(
        [*named, *(load_classifier(each, as_list(config.trust)) for each in checkpoints)]
    )


if __name__ == "__main__":
    run_verb("classify", classify)
