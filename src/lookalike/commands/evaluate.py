"""lookalike evaluate: score a checkpoint, or several as one, on their own data set or another."""

import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build
from lookalike.data.measuring import MeasuredImages
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import Measured, check_monitor, measure
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.inference.places import moved, with_absolute_paths
from lookalike.inference.testing import embed_test_images, measured_images
from lookalike.losses.classifier import EmbeddingClassifier, classifier_of
from lookalike.losses.matryoshka import lengths_of
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.reports.saved import QUERY_VALUES
from lookalike.reports.scores import print_counts, print_scores, write_metrics
from lookalike.retrieval.embeddings import concatenated

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> float:
    """Test scores of a checkpoint, or of several as one; returns the monitored metric (of the first
    setup, where the data set has several)."""
    files = [str(file) for file in as_list(config.checkpoint)]
    if not files:
        raise InputError("give checkpoint=RUN/checkpoints/best.ckpt, or a list of them")
    device, engine = find_device(config.device), build(config.embedding)
    checkpoints = [read_checkpoint(file, as_list(config.trust)) for file in files]
    if config.length is not None:
        checkpoints = [each.shortened(config.length) for each in checkpoints]
    tested = [_tested(each, config) for each in checkpoints]
    print_counts(tested[0].counts())
    plan: Evaluation = build(config.evaluation)
    measured = _measured(plan, checkpoints, tested, device, engine)
    scores = {f"test/{name}": value for name, value in measured.scores.items()}
    file = Path(config.paths.run) / "metrics.json"
    facts = {
        "checkpoint": files[0] if len(files) == 1 else files,
        "evaluation": OmegaConf.to_container(config.evaluation, resolve=True),
        "embedding": OmegaConf.to_container(config.embedding, resolve=True),
        "length": config.length,
        "counts": tested[0].counts(),
    }
    print_scores(scores, max(checkpoint.epochs for checkpoint in checkpoints), refit=False)
    measured.save(file.with_name(QUERY_VALUES))  # later: the disk may be full
    write_metrics(file, scores, facts)
    print(file)
    setup = next((each.suffix for each in tested[0].records.judgements), "")
    return scores[f"test/{plan.monitor}{setup}"]


def _tested(checkpoint: Checkpoint, config: DictConfig) -> MeasuredImages:
    """The images to test on, and a word if some of them may have been trained on."""
    data = _data_of(checkpoint, config)
    images = measured_images(data)
    trained = set(checkpoint.class_names) & set(images.records.class_names)
    if data["protocol"] == "test" and trained:
        log.warning(
            "Every image is measured, and %d of the classes were trained on. If these are the "
            "images of the training, elsewhere, the scores are too good: give data.root=<folder> "
            "without data=..., which splits them as in training.",
            len(trained),
        )
    return images


def _data_of(checkpoint: Checkpoint, config: DictConfig) -> dict[str, Any]:
    """The checkpoint's data, in another folder if `data.root` is given alone; or other data seen
    through the same test view."""
    own, given = checkpoint.data(), config.data
    if "source" not in given:
        return own if given.root is None else moved(own, given.root)
    trained = OmegaConf.create(checkpoint.config)
    trained.data = {**own, "num_classes": None, "exclude": None, **given}
    plain: Any = OmegaConf.to_container(trained.data, resolve=True)
    data = with_absolute_paths(plain)
    if data["protocol"] == "auto" and data["source"] != own["source"]:
        data["protocol"] = "test"  # it was not trained on
    return data


def _measured(
    plan: Evaluation,
    checkpoints: list[Checkpoint],
    tested: list[MeasuredImages],
    device: torch.device,
    engine: EmbeddingEngine,
) -> Measured:
    records = tested[0].records
    classifier, lengths = _classifier(checkpoints), _lengths(checkpoints)
    check_monitor(plan, classifier, records, records.ids("test"))
    _check_same_images(tested, checkpoints)
    embeddings = concatenated(
        [
            embed_test_images(checkpoint, images, device, engine)
            for checkpoint, images in zip(checkpoints, tested, strict=True)
        ]
    )
    return measure(plan, embeddings, embeddings, records, classifier, device, lengths)


def _classifier(checkpoints: list[Checkpoint]) -> EmbeddingClassifier | None:
    """That of a single checkpoint with whole embeddings; several have none together."""
    if len(checkpoints) > 1 or checkpoints[0].length is not None:
        return None
    (only,) = checkpoints
    return classifier_of(only.loss(), only.class_names)


def _lengths(checkpoints: list[Checkpoint]) -> tuple[int, ...]:
    """At which a single checkpoint was trained, if it is not cut already."""
    if len(checkpoints) > 1 or checkpoints[0].length is not None:
        return ()
    return lengths_of(checkpoints[0].loss())


def _check_same_images(tested: list[MeasuredImages], checkpoints: list[Checkpoint]) -> None:
    first, *others = [each.records.paths[each.records.ids("test")].tolist() for each in tested]
    for checkpoint, paths in zip(checkpoints[1:], others, strict=True):
        if paths != first:
            raise InputError(
                f"{checkpoints[0].file} and {checkpoint.file} were tested on different images, so "
                "they can't be measured as one. Give checkpoints of the same data, or data=<set>."
            )


if __name__ == "__main__":
    run_verb("evaluate", evaluate)
