"""Scores of embeddings with a classifier, and stopping by a score, by loops over plain numbers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from sklearn import metrics
from torch.nn import functional

from lookalike.data.records import Records
from lookalike.device import CPU
from lookalike.evaluation.callback import stop_early
from lookalike.evaluation.classification import (
    accuracy,
    confusion_matrix,
    cross_entropy,
    recall_within_class,
)
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import Measured, measure
from lookalike.losses.classifier import EmbeddingClassifier
from lookalike.retrieval.embeddings import Embeddings


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 200, (300, 5))  # exp() alone would overflow
    labels = rng.integers(0, 5, 300)
    right = accuracy(logits, labels)
    assert right.mean() == metrics.accuracy_score(labels, logits.argmax(1))
    losses = cross_entropy(logits, labels)
    expected = functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), reduction="none"
    )
    np.testing.assert_allclose(losses, expected.numpy(), atol=1e-9)
    small = logits / 200
    probabilities = np.exp(small) / np.exp(small).sum(1, keepdims=True)
    assert cross_entropy(small, labels).mean() == pytest.approx(
        metrics.log_loss(labels, probabilities)
    )
    np.testing.assert_array_equal(
        confusion_matrix(labels, logits.argmax(1), 5),
        metrics.confusion_matrix(labels, logits.argmax(1), labels=range(5)),
    )


def test_a_class_that_is_never_shown_nor_predicted_has_its_row_and_column() -> None:
    counts = confusion_matrix(np.array([0, 2, 2]), np.array([2, 0, 2]), 4)
    assert counts.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_recall_within_the_predicted_class_equals_a_search_inside_it() -> None:
    """A double loop that really searches, among items of the predicted class alone."""
    rng = np.random.default_rng(1)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])  # the last one has nothing to find
    vectors = unit(rng, len(labels), 3)
    predicted = rng.integers(0, 4, len(labels))
    predicted[:2] = 0
    for k in (1, 2, 4):
        expected = []
        for query, wanted in enumerate(labels):
            inside = [g for g in range(len(labels)) if g != query and labels[g] == predicted[query]]
            inside.sort(key=lambda g: -float(vectors[query] @ vectors[g]))
            found = any(labels[g] == wanted for g in inside[:k])
            expected.append(float(found) if (labels == wanted).sum() > 1 else np.nan)
        n_relevant = np.array([(labels == wanted).sum() - 1 for wanted in labels])
        np.testing.assert_array_equal(recall_within_class(predicted, labels, n_relevant), expected)


ROLES = ("query", "gallery", "both", "query", "gallery", "both", "query", "gallery", "query")
NAMES = ("a", "a", "b", "b", "c", "c", "c", "b", "d")  # nothing in the gallery shows a "d"


def measured(
    classes: tuple[str, ...], seed: int = 2
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """Scores with a classifier of these classes, and its logits by image and class; the first
    three of twelve records are not measured."""
    rng = np.random.default_rng(seed)
    records = Records.create(
        [f"{n}.png" for n in range(12)], ["z", "y", "a", *NAMES], roles=["both"] * 3 + [*ROLES]
    )
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = Embeddings(vectors, records.labels[3:], np.arange(3, 12))
    weight = rng.normal(0, 3, (4, len(classes))).astype(np.float32)
    classifier = EmbeddingClassifier(lambda v: v @ torch.from_numpy(weight), classes, CPU)
    scores = measure(Evaluation(), own, own, records, classifier).scores
    products = vectors.astype(float) @ weight.astype(float)
    return scores, {n: dict(zip(classes, row, strict=True)) for n, row in enumerate(products)}


@pytest.mark.parametrize("seed", range(4))
def test_scores_of_a_classifier_by_names(seed: int) -> None:
    """Its classes are in another order than the records', and more; accuracy and loss are those of
    all images, recall within the class is that of the queries with something to find."""
    scores, logits = measured(("other", "c", "a", "d", "b"), seed)
    named = {image: max(row, key=lambda name: row[name]) for image, row in logits.items()}
    right = [named[image] == name for image, name in enumerate(NAMES)]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    losses = [
        -np.log(np.exp(logits[image][name]) / np.exp([*logits[image].values()]).sum())
        for image, name in enumerate(NAMES)
    ]
    assert scores["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    found = []
    for image, name in enumerate(NAMES):
        positives = [
            other
            for other, role in enumerate(ROLES)
            if role != "query" and NAMES[other] == name and other != image
        ]
        if ROLES[image] != "gallery" and positives:
            found.append(right[image])
    assert len(found) == 5
    assert scores["recall_within_class"] == pytest.approx(np.mean(found))


def test_a_classifier_that_lacks_a_measured_class_has_no_scores() -> None:
    with_all, _ = measured(("c", "a", "d", "b"))
    lacking, _ = measured(("c", "a", "other", "b"))
    of_classifier = {"accuracy", "loss", "recall_within_class"}
    assert set(with_all) - set(lacking) == of_classifier


def test_equal_embeddings_have_the_same_scores_but_those_of_a_classifier() -> None:
    scores = {"map": 0.5, "accuracy": 0.25, "loss": 2.0, "recall_within_class": 0.75}
    values, ids = {"map": np.array([0.25, 0.75])}, np.array([4, 7])
    kept = Measured(scores, values, ids).without_classifier()
    assert kept.scores == {"map": 0.5}
    assert (kept.values, kept.ids.tolist()) == (values, [4, 7])


def trainer(score: float = 0.0, stops: bool = False) -> Any:
    """As much of a trainer, after a validation, as early stopping looks at."""
    return SimpleNamespace(
        callback_metrics={"val/map_at_r": torch.tensor(score), "val/loss": torch.tensor(-score)},
        should_stop=stops,
        fast_dev_run=False,
        sanity_checking=False,
        current_epoch=0,
        val_check_interval=1.0,
        check_val_every_n_epoch=1,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision),
    )


def stops_after(callback: Any, scores: list[float]) -> int | None:
    """The number of validations after which a callback stops a training, if it does."""
    module = LightningModule()
    callback.setup(trainer(), module, "fit")
    for number, score in enumerate(scores, 1):
        now = trainer(score)
        callback.on_validation_end(now, module)
        saved = callback.wait_count
        callback.on_train_epoch_end(now, module)
        assert callback.wait_count == saved  # it has counted before checkpoints are saved
        if now.should_stop:
            return number
    return None


@pytest.mark.parametrize("monitor", ["map_at_r", "loss"])
@pytest.mark.parametrize("patience", [1, 2, 5])
def test_a_training_stops_after_so_many_epochs_without_a_better_score(
    monitor: str, patience: int
) -> None:
    """A loss is better where it is lower: here it is minus the score."""
    scores = [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.35, 0.1, 0.4, 0.5]
    worse, expected = 0, None
    for number, score in enumerate(scores, 1):
        worse = 0 if score > max(scores[: number - 1], default=-1) else worse + 1
        if worse == patience:
            expected = number
            break
    assert stops_after(stop_early(Evaluation(monitor=monitor), patience), scores) == expected


def test_a_resumed_run_goes_on_counting_and_obeys_its_new_patience() -> None:
    before = stop_early(Evaluation(), 4)
    assert stops_after(before, [0.5, 0.4, 0.4]) is None
    for patience, more in ((3, 1), (6, 4)):
        resumed = stop_early(Evaluation(), patience)
        resumed.load_state_dict(before.state_dict())
        now = trainer()
        resumed.on_train_start(now, LightningModule())
        assert not now.should_stop
        assert stops_after(resumed, [0.4] * 9) == more


@pytest.mark.parametrize(("patience", "stops"), [(1, True), (2, True), (3, False)])
def test_a_run_that_had_stopped_trains_no_further(patience: int, stops: bool) -> None:
    before = stop_early(Evaluation(), 9)
    stops_after(before, [0.5, 0.4, 0.4])
    resumed = stop_early(Evaluation(), patience)
    resumed.load_state_dict(before.state_dict())
    now = trainer()
    resumed.on_train_start(now, LightningModule())
    assert now.should_stop == stops
    already = trainer(stops=True)  # by something else
    resumed.on_train_start(already, LightningModule())
    assert already.should_stop
