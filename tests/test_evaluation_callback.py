"""The evaluation callback, driven by hand: what it collects, measures, keeps and logs."""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lookalike.data.records import Records
from lookalike.device import CPU
from lookalike.evaluation import callback as module_under_test
from lookalike.evaluation.callback import FROZEN, RetrievalEvaluation
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import measure
from lookalike.losses.matryoshka import MatryoshkaLoss
from lookalike.losses.softmax import SoftmaxLoss
from lookalike.retrieval.embeddings import Embeddings

COUNT = 12
RECORDS = Records.create(
    [f"{n}.png" for n in range(COUNT)], list("aaabbbcccddd"), groups=["x", "x"] + [""] * 10
)
PLAN = Evaluation(k=(1, 2))


def drawn(seed: int, dimensions: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(COUNT, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def module(loss: nn.Module | None = None, step: int = 0) -> Any:
    """As much of a Lightning module as the callback asks for; `logged` holds what it logs."""
    logged: dict[str, float] = {}
    return SimpleNamespace(
        device=CPU,
        trainer=SimpleNamespace(global_step=step),
        get_submodule={"loss": loss or nn.Identity()}.__getitem__,
        log_dict=logged.update,
        logged=logged,
    )


def feed(callback: RetrievalEvaluation, which: dict[str, np.ndarray], split: str = "val") -> None:
    """One pass over the images in batches, some of them twice, as a sampler of ranks pads."""
    on = {"val": "validation", "test": "test"}[split]
    getattr(callback, f"on_{on}_epoch_start")(None, None)
    for rows in ([7, 3, 0, 1], [2, 4, 5, 6], [8, 9, 10, 11, 7]):
        batch = SimpleNamespace(labels=torch.tensor(RECORDS.labels[rows]), ids=torch.tensor(rows))
        outputs = {name: torch.from_numpy(vectors[rows]) for name, vectors in which.items()}
        getattr(callback, f"on_{on}_batch_end")(None, None, outputs, batch, 0)


def expected(vectors: np.ndarray, *more: Any) -> dict[str, float]:
    own = Embeddings(vectors, RECORDS.labels, np.arange(COUNT), RECORDS.exclusion_ids)
    return measure(PLAN, own, own, RECORDS, *more).scores


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("prefix", ["", "epoch_0/"])
def test_scores_are_logged_by_split_and_kept(split: str, prefix: str) -> None:
    callback = RetrievalEvaluation(PLAN, RECORDS)
    callback.prefix = prefix
    pl_module, vectors = module(), drawn(0)
    feed(callback, {"": vectors}, split)
    end = callback.on_validation_epoch_end if split == "val" else callback.on_test_epoch_end
    end(None, pl_module)
    assert callback.scores == {
        f"{prefix}{split}/{name}": value for name, value in expected(vectors).items()
    }
    assert pl_module.logged == callback.scores
    assert list(callback.measured) == [""]
    assert callback.measured[""].ids.tolist() == list(range(COUNT))
    kept = callback.tested.ids.tolist()
    assert kept == (list(range(COUNT)) if split == "test" else [])
    if split == "test":
        np.testing.assert_array_equal(callback.tested.vectors, vectors)
        assert callback.tested.exclusion_ids.tolist() == RECORDS.exclusion_ids.tolist()
    feed(callback, {"": drawn(1)}, split)  # nothing of the first pass is left
    end(None, pl_module)
    assert callback.measured[""].scores == expected(drawn(1))


def test_before_the_first_pass_there_is_nothing() -> None:
    callback = RetrievalEvaluation(PLAN, RECORDS)
    assert (callback.scores, callback.measured, callback.prefix) == ({}, {}, "")
    assert len(callback.tested) == 0
    assert not callback.with_frozen


def test_an_interrupted_pass_is_dropped() -> None:
    callback = RetrievalEvaluation(PLAN, RECORDS)
    feed(callback, {"": drawn(0)})
    feed(callback, {"": drawn(1)})
    callback.on_validation_epoch_end(None, module())
    assert callback.measured[""].scores == expected(drawn(1))


def test_the_frozen_backbone_is_measured_beside() -> None:
    callback = RetrievalEvaluation(PLAN, RECORDS)
    callback.with_frozen = True
    frozen = drawn(1, 5)  # without a head it has another size
    feed(callback, {"": drawn(0), FROZEN: frozen}, "test")
    pl_module = module(MatryoshkaLoss({"_target_": "torch.nn.Identity"}, 8, [4]))
    callback.on_test_epoch_end(None, pl_module)
    own = {f"test/{name}": value for name, value in expected(drawn(0), None, CPU, (4,)).items()}
    beside = {f"{FROZEN}test/{name}": value for name, value in expected(frozen).items()}
    assert FROZEN == "frozen/"
    assert callback.scores == own | beside
    assert "test/map_at_r_length_4" in callback.scores
    assert "frozen/test/map_at_r_length_4" not in callback.scores


def test_equal_embeddings_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return measure(*given)

    monkeypatch.setattr(module_under_test, "measure", counted)
    loss = SoftmaxLoss(4, 8)
    callback = RetrievalEvaluation(PLAN, RECORDS, RECORDS.class_names)
    callback.with_frozen = True
    for beside, searches in ((drawn(0), 1), (drawn(1), 2)):
        calls.clear()
        feed(callback, {"": drawn(0), FROZEN: beside})
        callback.on_validation_epoch_end(None, module(loss))
        assert len(calls) == searches
        assert "val/accuracy" in callback.scores
        assert "frozen/val/accuracy" not in callback.scores
        assert callback.scores["frozen/val/map"] == expected(beside)["map"]


def test_a_classifier_is_measured_by_the_names_of_the_training_classes() -> None:
    torch.manual_seed(0)
    loss = SoftmaxLoss(4, 8)
    callback = RetrievalEvaluation(PLAN, RECORDS, ("d", "c", "b", "a"))
    feed(callback, {"": drawn(0)})
    callback.on_validation_epoch_end(None, module(loss))
    predicted = loss.logits(torch.from_numpy(drawn(0))).argmax(1).numpy()
    right = np.array(["d", "c", "b", "a"])[predicted] == np.array(list("aaabbbcccddd"))
    assert callback.scores["val/accuracy"] == right.mean()


@pytest.mark.parametrize(
    ("step", "spread", "warns"), [(5, 0.0, True), (0, 0.0, False), (5, 1.0, False)]
)
def test_collapsed_embeddings_are_told_after_the_first_step(
    step: int, spread: float, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    callback = RetrievalEvaluation(PLAN, RECORDS)
    vectors = drawn(0)[:1] + spread * drawn(1)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    feed(callback, {"": vectors})
    with caplog.at_level(logging.WARNING, "lookalike"):
        callback.on_validation_epoch_end(None, module(step=step))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == warns
    if warns:
        assert said[0].startswith(
            "The embeddings have collapsed: the mean cosine distance between two images is "
        )
        assert "Try a tenth of the learning rates, miner=multi_similarity or " in said[0]
        assert said[0].endswith("or a loss with proxies (loss=proxy_anchor).")


def test_ranks_exchange_on_the_device_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(name: str, place: int) -> None:
        original = getattr(module_under_test, name)

        def call(*given: Any) -> Any:
            asked.append((name, given[place]))
            return original(*given[:place], CPU, *given[place + 1 :])

        monkeypatch.setattr(module_under_test, name, call)

    for name, place in (("gather_embeddings", 2), ("highest", 1), ("measure", 5)):
        recorded(name, place)
    callback = RetrievalEvaluation(PLAN, RECORDS)
    callback.with_frozen = True
    feed(callback, {"": drawn(0), FROZEN: drawn(1)})
    pl_module = module()
    pl_module.device = torch.device("cuda:1")
    callback.on_validation_epoch_end(None, pl_module)
    once = ["gather_embeddings", "measure"]
    assert asked == [(name, pl_module.device) for name in (*once, "highest", *once)]
