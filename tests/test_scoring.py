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

from lookalike.data.judgements import Judgements
from lookalike.data.records import Records
from lookalike.device import CPU
from lookalike.errors import InputError
from lookalike.evaluation import scoring
from lookalike.evaluation.callback import stop_early
from lookalike.evaluation.classification import (
    accuracy,
    confusion_matrix,
    cross_entropy,
    recall_within_class,
)
from lookalike.evaluation.clustering import clustering
from lookalike.evaluation.metrics import values_of
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.recognition import Recognition, recognition_scores
from lookalike.evaluation.scoring import Measured, check_monitor, measure
from lookalike.losses.classifier import EmbeddingClassifier
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.relevance import Judged


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


RECORDS = Records.create(
    [f"{n}.png" for n in range(12)], list("aabbccddaabb"), groups=["x"] * 2 + [""] * 10
)


def drawn(seed: int = 0, size: int = 6) -> Embeddings:
    return Embeddings(
        unit(np.random.default_rng(seed), 12, size), RECORDS.labels, np.arange(12),
        RECORDS.exclusion_ids,
    )  # fmt: skip


def test_every_part_of_a_plan_is_measured_as_it_says() -> None:
    """Each score equals the mean of what `values_of` gives when it is asked for alone."""
    everything = drawn()
    plan = Evaluation(k=(1, 3), minp=True, map_at=(2,), trapezoid=True, engine="bounded")
    found = measure(plan, everything, everything, RECORDS)
    values = values_of(everything, everything, (1, 3), True, True, map_at=(2,), trapezoid=True)
    assert set(found.values) == set(values)
    for name, column in values.items():
        np.testing.assert_array_equal(found.values[name], column)
        assert found.scores[name] == np.nanmean(column)
    assert found.ids.tolist() == list(range(12))
    counts = {"queries": 12.0, "queries_without_positive": 0.0}
    assert {name: found.scores[name] for name in counts} == counts
    assert set(found.scores) == {*values, *counts}
    few = measure(Evaluation(k=(2,), whole_ranking=False), everything, everything, RECORDS)
    assert set(few.values) == {"recall_at_2", "precision_at_1", "r_precision", "map_at_r"}


def test_queries_and_gallery_are_those_of_their_roles() -> None:
    roles = np.array(["query", "both", "gallery"] * 4)
    records = Records.create(
        RECORDS.paths.tolist(), list("aabbccddaabb"), roles=roles.tolist(),
        groups=RECORDS.groups.tolist(),
    )  # fmt: skip
    everything = drawn()
    found = measure(Evaluation(), everything, everything, records)
    queries, gallery = everything[roles != "gallery"], everything[roles != "query"]
    expected = values_of(queries, gallery, (1, 2, 4, 8), True)
    assert found.ids.tolist() == queries.ids.tolist()
    for name, column in expected.items():
        np.testing.assert_array_equal(found.values[name], column)
    missing = int(np.isnan(expected["map"]).sum())
    assert 0 < missing < len(queries)
    assert found.scores["queries_without_positive"] == missing
    assert found.scores["queries"] == len(queries)


def test_re_ranking_sees_everything_and_is_timed() -> None:
    everything, seen = drawn(), []

    class Reversed:
        def __call__(self, gallery: Any, queries: Any, k: int, everything: Any) -> Any:
            seen.append((len(gallery), len(queries), k, everything))
            scores = -(queries.vectors @ gallery.embeddings.vectors.T)
            yield gallery.rank(queries, scores, k)

    plan = Evaluation(k=(1,), rerank=Reversed(), engine="faiss")
    found = measure(plan, everything, everything, RECORDS)
    assert [(len(each), *rest) for each, *rest in [(s[3], *s[:3]) for s in seen]] == [
        (12, 12, 12, 12)
    ]
    assert seen[0][3] is everything
    assert 0 < found.scores["ranking_seconds"] < 60
    seen.clear()
    measure(plan, everything, everything, RECORDS, lengths=(2,))
    assert [each[3].vectors.shape for each in seen] == [(12, 6), (12, 2)]
    turned = Embeddings(-everything.vectors, *everything._columns()[1:])
    opposite = values_of(everything, turned, (1,), True)
    np.testing.assert_array_equal(found.values["map"], opposite["map"])


def test_shorter_embeddings_are_measured_beside() -> None:
    everything = drawn(size=8)
    found = measure(Evaluation(k=(1,)), everything, everything, RECORDS, lengths=(4, 2))
    for length in (4, 2):
        short = everything.shortened(length)
        for name, column in values_of(short, short, (1,), True).items():
            np.testing.assert_array_equal(found.values[f"{name}_length_{length}"], column)
    assert [name for name in found.scores if name.startswith("queries")] == [
        "queries", "queries_without_positive",
    ]  # fmt: skip


def test_clusters_and_recognition_are_measured_where_they_are_asked_for() -> None:
    everything = drawn()
    plan = Evaluation(k=(1,), clustering=True, recognition=Recognition(2, 3.0))
    found = measure(plan, everything, everything, RECORDS)
    assert {n: found.scores[n] for n in ("nmi", "ami")} == clustering(everything)
    columns = Recognition(2, 3.0).columns(everything, everything, np.ones(12, bool), Engines())
    for name, value in recognition_scores(columns).items():
        assert found.scores[name] == value
    assert {"map", "queries", "queries_without_positive"} < set(found.scores)


def test_setups_of_judgements_have_their_own_names() -> None:
    def judged(name: str, relevant: list[list[int]]) -> Judgements:
        return Judgements.of_lists([0, 5], relevant, [[2], []], name)

    setups = (judged("easy", [[1], [6]]), judged("hard", [[3, 4], []]))
    records = Records.create(RECORDS.paths.tolist(), list("aabbccddaabb"), judgements=setups)
    everything = drawn()
    found = measure(Evaluation(k=(1,)), everything[np.array([0, 5])], everything, records)
    for setup in setups:
        relevance = Judged.of(setup, everything[np.array([0, 5])], everything)
        values = values_of(
            everything[np.array([0, 5])], everything, (1,), True, judged=relevance
        )  # fmt: skip
        for name, column in values.items():
            np.testing.assert_array_equal(found.values[f"{name}_{setup.name}"], column)
    assert found.scores["queries"] == 2
    assert found.scores["queries_without_positive_easy"] == 0
    assert found.scores["queries_without_positive_hard"] == 1
    assert found.scores["map_hard"] == found.values["map_hard"][0]
    seen = []

    class Watching:
        def __call__(self, gallery: Any, queries: Any, k: int, everything: Any) -> Any:
            seen.append(everything)
            yield from gallery.search(queries, k)

    measure(Evaluation(rerank=Watching()), everything[np.array([0, 5])], everything, records)
    assert len(seen) == 2
    assert all(each is everything for each in seen)
    with pytest.raises(InputError) as caught:
        measure(Evaluation(clustering=True), everything, everything, records)
    assert str(caught.value) == (
        "evaluation.clustering=true compares clusters with classes, and this data set says which "
        "images answer a query, not of which class they are. Leave it out."
    )


def test_nothing_to_be_found_is_told_in_full() -> None:
    records = Records.create([f"{n}.png" for n in range(3)], list("abc"))
    alone = Embeddings(np.eye(3, dtype=np.float32), records.labels, np.arange(3))
    with pytest.raises(InputError) as caught:
        measure(Evaluation(), alone, alone, records)
    assert str(caught.value) == (
        "none of the 3 queries has another image of its class in the gallery, so nothing can be "
        "measured. Check labels, roles and data.protocol."
    )


def test_a_monitor_of_a_classifier_needs_one_that_knows_all_classes() -> None:
    def of(*names: str) -> EmbeddingClassifier:
        return EmbeddingClassifier(lambda v: v, names, CPU)

    every, some = np.arange(12), np.array([0, 1, 4])
    for monitor in ("accuracy", "loss"):
        plan = Evaluation(monitor=monitor)
        check_monitor(plan, of("a", "b", "c", "d", "e"), RECORDS, every)
        check_monitor(plan, of("c", "a"), RECORDS, some)
        for classifier in (None, of("a", "b", "c")):
            with pytest.raises(InputError) as caught:
                check_monitor(plan, classifier, RECORDS, every)
            assert str(caught.value) == (
                f"evaluation.monitor={monitor} is a classifier's, so it needs a loss that has one "
                "and to be measured on the classes that train. Set loss=softmax (or "
                "softmax_triplet, norm_softmax, arcface, cosface) and data.protocol=official or "
                "seen_classes, or evaluation.monitor=map_at_r."
            )
    check_monitor(Evaluation(), None, RECORDS, every)
    check_monitor(Evaluation(), of("a"), RECORDS, every)


def test_values_of_queries_are_saved_as_float32(tmp_path: Any) -> None:
    found = Measured({}, {"map": np.array([0.25, np.nan]), "minp": np.ones(2)}, np.array([4, 7]))
    found.save(tmp_path / "values.npz")
    with np.load(tmp_path / "values.npz") as arrays:
        assert {*arrays} == {"ids", "map", "minp"}
        assert arrays["ids"].tolist() == [4, 7]
        assert arrays["map"].dtype == arrays["minp"].dtype == np.float32
        np.testing.assert_array_equal(arrays["map"], [0.25, np.nan])
    assert [each.name for each in tmp_path.iterdir()] == ["values.npz"]


def test_ranks_exchange_and_search_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    engines, gather = Evaluation.engines, scoring.gather_by_id
    monkeypatch.setattr(
        Evaluation, "engines",
        lambda self, device=CPU: asked.append(device) or engines(self),
    )  # fmt: skip
    monkeypatch.setattr(
        scoring, "gather_by_id",
        lambda ids, values, device: asked.append(device) or gather(ids, values),
    )  # fmt: skip
    device: Any = SimpleNamespace(type="cuda")
    plan = Evaluation(k=(1,), recognition=Recognition())
    asked.clear()
    measure(plan, drawn(), drawn(), RECORDS, device=device, lengths=(2,))
    assert asked == [device] * 5
