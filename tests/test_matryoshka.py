"""Matryoshka: every length is trained, measured and usable, and is the beginning of the whole."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from conftest import Compose
from lookalike.config import build
from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import measure
from lookalike.inference.checkpoint import KEY, Checkpoint, shortened
from lookalike.inference.network import network_in, trained_network
from lookalike.losses.classifier import logits_of
from lookalike.losses.matryoshka import MatryoshkaLoss, lengths_of
from lookalike.losses.squared_contrastive import SquaredContrastiveLoss
from lookalike.models.heads import Linear
from lookalike.reports.scores import print_scores
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment

CONTRASTIVE = {"_target_": "lookalike.losses.squared_contrastive.SquaredContrastiveLoss"}
SUM = {
    "_target_": "lookalike.losses.weighted_sum.WeightedSum",
    "losses": {
        "softmax": {
            "_target_": "lookalike.losses.softmax.SoftmaxLoss",
            "num_classes": 3,
            "embedding_size": 8,
        },
        "contrastive": CONTRASTIVE,
    },
    "weights": {"softmax": 1.0, "contrastive": 1.0},
}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(9, 8, generator=generator, dtype=torch.float64))
    return vectors.requires_grad_(), torch.arange(9) % 3


def test_the_loss_is_the_sum_over_normalised_prefixes() -> None:
    vectors, labels = batch()
    loss = MatryoshkaLoss(CONTRASTIVE, 8, [8, 3, 1])
    expected = 0.0
    for length in (8, 3, 1):
        cut = [vector[:length] / vector[:length].norm() for vector in vectors.detach()]
        expected += SquaredContrastiveLoss()(torch.stack(cut), labels).item()
    assert loss(vectors, labels).item() == pytest.approx(expected)
    assert list(loss.terms) == ["length_8", "length_3", "length_1"]
    assert torch.autograd.gradcheck(lambda each: loss(each, labels), vectors)


def test_each_length_has_parameters_of_its_size_at_any_depth() -> None:
    loss = MatryoshkaLoss(SUM, 8, [2])
    weights = [tuple(each.shape) for each in loss.parameters() if each.ndim == 2]
    assert weights == [(3, 8), (3, 2)]
    vectors, labels = batch()
    loss.double()(vectors, labels).backward()
    assert all(each.grad is not None for each in loss.parameters())
    logits = logits_of(loss)
    assert logits is not None
    assert logits(vectors).shape == (9, 3)


@pytest.mark.parametrize(
    ("size", "lengths", "expected"),
    [(128, None, [128, 64, 32, 16]), (8, [2], [8, 2]), (2, None, [2, 1]), (8, [4, 8, 4], [8, 4])],
)
def test_lengths(size: int, lengths: list[int] | None, expected: list[int]) -> None:
    loss = MatryoshkaLoss(CONTRASTIVE, size, lengths)
    assert loss.lengths == expected
    assert lengths_of(loss) == tuple(expected[1:])
    assert lengths_of(SquaredContrastiveLoss()) == ()


@pytest.mark.parametrize("lengths", [[0], [9], [4, -1]])
def test_lengths_that_there_are_not(lengths: list[int]) -> None:
    with pytest.raises(InputError, match=r"numbers from 1 to embedding_size=8"):
        MatryoshkaLoss(CONTRASTIVE, 8, lengths)


def test_scores_of_a_length_are_those_of_the_cut_vectors() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors[:, 4:] *= 3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.arange(40) % 8
    records = Records.create([str(i) for i in range(40)], [str(label) for label in labels])
    whole = Embeddings(vectors, records.labels, np.arange(40))
    plan = Evaluation()
    found = measure(plan, whole, whole, records, lengths=[4]).scores
    cut = vectors[:, :4] / np.linalg.norm(vectors[:, :4], axis=1, keepdims=True)
    alone = Embeddings(cut, records.labels, np.arange(40))
    expected = measure(plan, alone, alone, records).scores
    for name in ("recall_at_1", "recall_at_8", "map_at_r", "map"):
        assert found[f"{name}_length_4"] == expected[name]
        assert found[name] != expected[name]
    assert found["queries"] == expected["queries"] == 40


def test_lengths_have_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"test/map_at_r": 0.5, "test/recall_at_1": 0.75, "test/queries": 9.0}
    print_scores(whole, epochs=1, refit=False)
    assert "whole" not in capsys.readouterr().out
    cut = {"test/map_at_r_length_4": 0.25, "test/recall_at_1_length_4": 0.125}
    print_scores(whole | cut, epochs=1, refit=False)
    said = [re.sub(r"[^\w.@]+", " ", line).split() for line in capsys.readouterr().out.splitlines()]
    assert ["MAP@R", "0.5000"] in said
    assert ["MAP@R", "0.5000", "0.2500"] in said
    assert ["recall@1", "0.7500", "0.1250"] in said


@pytest.fixture
def trained(tiny: tuple[str, ...], compose: Compose, tmp_path: Path) -> Checkpoint:
    """One step of a proxy loss at 8 and 4 dimensions."""
    loss = ["loss=matryoshka", "loss@loss.loss=proxy_anchor", "loss.lengths=[8,4]"]
    config = compose("train", *tiny, *loss, "trainer.limit_train_batches=1")
    return Experiment(config, tmp_path).fit()


def test_a_trained_network_is_used_at_a_shorter_length(trained: Checkpoint) -> None:
    assert {"val/map_at_r", "val/map_at_r_length_4"} <= set(trained.scores)
    assert [p.shape[1] for p in trained.loss().parameters()] == [8, 4]
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    whole = trained_network(trained)
    short = network_in(trained.file, length=4)
    assert (whole.embedder.embedding_size, short.embedder.embedding_size) == (8, 4)
    assert whole.fingerprint != short.fingerprint
    with torch.inference_mode():
        expected = normalize(whole.embedder(images)[:, :4])
        torch.testing.assert_close(short.embedder(images), expected)
    with pytest.raises(InputError, match="these embeddings have 8 numbers"):
        network_in(trained.file, length=9)


def test_the_content_that_an_index_keeps_is_cut_too(trained: Checkpoint) -> None:
    content: dict[str, Any] = {
        KEY: {"config": trained.config, "format": 2},
        "state_dict": trained.state,
    }
    cut = shortened(content, 4)
    assert cut[KEY]["config"]["embedder"]["length"] == 4
    assert "length" not in content[KEY]["config"]["embedder"]
    assert cut["state_dict"] is content["state_dict"]
    assert trained.shortened(4).shortened(None).fingerprint() == trained.fingerprint()


def test_the_configured_loss_builds_at_the_sizes_of_the_network(compose: Compose) -> None:
    config = compose(
        "train", "loss=matryoshka", "loss@loss.loss=softmax_triplet", "embedding_size=16",
        "data.num_classes=5",
    )  # fmt: skip
    loss = build(config.loss)
    assert loss.lengths == [16, 8, 4, 2]
    head = Linear(4, 16)
    value = loss(normalize(head(torch.randn(6, 4))), torch.tensor([0, 0, 1, 1, 2, 2]))
    value.backward()
    assert value.isfinite()
