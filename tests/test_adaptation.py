"""Adaptation: mixed weights, penalties, the adapter, and the verdict beside the frozen backbone."""

import csv
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import normalize

import lookalike
from lookalike.data.decoding import as_tensor, read_image
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.models.adapter import ResidualAdapter
from lookalike.models.backbones import Backbone
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze
from lookalike.models.heads import Linear
from lookalike.models.pooling import AveragePooling
from lookalike.reports.saved import SavedRun
from lookalike.reports.verdicts import on_verdicts
from lookalike.training.distillation import Distillation
from lookalike.training.experiment import Experiment
from lookalike.training.l2_sp import L2SP
from lookalike.training.wise_ft import WiseFT, interpolated, p_of_gain, smallest_share, start_of

Cli = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.fixture
def embedder() -> Embedder:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    backbone = Backbone(network, 8, (0.5,) * 3, (0.2,) * 3)
    return Embedder(backbone, AveragePooling(), partial(Linear, embedding_size=4), Freeze(0))


def moved(embedder: Embedder) -> Embedder:
    """A copy with other weights, and other running statistics."""
    other = deepcopy(embedder)
    with torch.no_grad():
        for part in (*other.parameters(), *other.buffers()):
            part += 1 if not part.is_floating_point() else torch.randn(part.shape).abs()
    return other


def test_the_ends_of_a_mixture_are_the_start_and_the_trained_weights(embedder: Embedder) -> None:
    start, trained = start_of(embedder), start_of(moved(embedder))
    for alpha, end in ((0.0, start), (1.0, trained)):
        for name, value in interpolated(start, trained, alpha).items():
            assert torch.equal(value, end[name])
            assert value.dtype == end[name].dtype


def test_a_mixture_lies_between(embedder: Embedder) -> None:
    start, trained = start_of(embedder), start_of(moved(embedder))
    found = interpolated(start, trained, 0.3)
    assert len(found) > 6
    for name, value in found.items():
        wanted = 0.7 * start[name].double() + 0.3 * trained[name].double()
        if "num_batches" in name:
            wanted = start[name].double()
        np.testing.assert_allclose(value.numpy(), wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize("alphas", [[], [-0.1, 1], [0, 1.5]])
def test_shares_outside_of_0_to_1_are_refused(alphas: list[float]) -> None:
    with pytest.raises(InputError, match=r"ensemble.alphas=.*need one or more numbers"):
        WiseFT(alphas)
    with pytest.raises(InputError, match="compares with 0"):
        WiseFT([0.5, 1], significantly=True)
    assert not WiseFT([1], significantly=True).mixes


def test_the_gain_of_a_few_unseen_classes_is_never_significant() -> None:
    """Sign flips by hand over means of classes; queries without a relevant item don't count."""
    rng = np.random.default_rng(0)
    for count, enough in ((2, False), (5, False), (6, True), (9, True)):
        classes = np.repeat(np.arange(count), 8)
        before = rng.uniform(0, 0.5, len(classes))
        after = before + rng.uniform(0.1, 0.3, len(classes))
        before[3] = after[3] = np.nan
        means = [np.nanmean((after - before)[classes == each]) for each in range(count)]
        flipped = [abs(np.dot(signs, means)) for signs in product((-1, 1), repeat=count)]
        wanted = np.mean([each >= sum(means) - 1e-12 for each in flipped])
        found = p_of_gain(before, after, classes, unseen=True)
        assert found == pytest.approx(wanted)
        assert (found < 0.05) == enough
        assert p_of_gain(before, after, classes, unseen=False) < 0.05
    noise = rng.normal(size=40)
    assert p_of_gain(0 * noise, noise, np.arange(40), unseen=True) > 0.05  # drawn signs


@pytest.mark.parametrize(
    ("gains", "wanted"),
    [
        ((0.0, 0.1, 0.2), 1.0),  # each step is certain
        ((0.0, 0.2, 0.1), 0.5),
        ((0.1, 0.2, 0.0), 0.5),
        ((0.0, 0.2, 0.201), 0.5),  # the last one is noise
        ((0.0, 0.001, 0.002), 0.0),
        ((0.2, 0.1, 0.0), 0.0),
    ],
)
@pytest.mark.parametrize("unseen", [True, False])
def test_the_smallest_share_is_taken_that_is_not_significantly_worse_than_the_best(
    gains: tuple[float, ...], wanted: float, unseen: bool
) -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(20), 10)
    common = rng.uniform(0, 0.5, 200)
    values = {
        share: common + gain + rng.normal(scale=0.05, size=200)
        for share, gain in zip((0.0, 0.5, 1.0), gains, strict=True)
    }
    best = max(values, key=lambda each: values[each].mean())
    share, p = smallest_share(values, best, classes, unseen)
    assert share == wanted
    assert p >= 0.05
    assert all(
        p_of_gain(values[each], values[best], classes, unseen) < 0.05
        for each in values
        if each < share
    )


@pytest.mark.parametrize("unseen", [True, False])
def test_a_share_below_the_start_is_never_taken(unseen: bool) -> None:
    """Half is so noisy that it is not significantly worse than the best."""
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 0.2, 200)
    noise = np.repeat(rng.choice((-1.0, 1.0), 20), 10) * 3
    values = {0.0: start, 0.5: start + noise - noise.mean() - 0.01, 1.0: start + 0.3}
    classes = np.repeat(np.arange(20), 10)
    assert p_of_gain(values[0.5], values[1.0], classes, unseen=True) >= 0.05
    assert smallest_share(values, 1.0, classes, unseen)[0] == 1


@pytest.mark.parametrize("hidden", [None, 3])
def test_an_adapter_starts_as_the_features(hidden: int | None) -> None:
    torch.manual_seed(0)
    adapter, features = ResidualAdapter(6, hidden), torch.randn(9, 6) * 40
    assert torch.equal(adapter(features), features)
    assert adapter.embedding_size == 6
    adapter(features).square().sum().backward()
    last = list(adapter.learned)[-1]
    assert isinstance(last, nn.Linear)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0  # it can leave its start


def test_an_adapter_adds_what_its_layers_make_of_the_direction() -> None:
    torch.manual_seed(1)
    adapter, features = ResidualAdapter(4), torch.randn(7, 4) * 3
    (layer,) = adapter.learned
    assert isinstance(layer, nn.Linear)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for row, found in zip(features.numpy(), adapter(features).detach().numpy(), strict=True):
        length = np.sqrt((row**2).sum())
        np.testing.assert_allclose(
            found, row + length * (weight @ (row / length) + bias), rtol=1e-4
        )


def test_a_whitening_adapter_begins_with_equal_variances_within_classes() -> None:
    """As by numpy's eigendecomposition, class by class; added nothing, it is the features again."""
    torch.manual_seed(2)
    labels = torch.tensor([4, 9, 9, 4, 2] * 40)
    noise = torch.randn(200, 5) * torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5])
    features = noise + 3 * labels[:, None] * torch.tensor([1.0, -1.0, 0.0, 2.0, 1.0])
    adapter = ResidualAdapter(5, whitening=True, shrinkage=0.5)
    adapter.start(features, labels)
    found = (adapter(features) / features.norm(dim=1, keepdim=True)).detach().double().numpy()
    unit = normalize(features).double().numpy()
    within = np.zeros((5, 5))
    for label in (2, 4, 9):
        own = unit[labels.numpy() == label]
        for row in own:
            within += np.outer(row - own.mean(0), row - own.mean(0)) / 200
    variances, directions = np.linalg.eigh(within + 0.5 * np.trace(within) / 5 * np.eye(5))
    whitening = directions @ np.diag(np.sqrt(variances[-1] / variances)) @ directions.T
    np.testing.assert_allclose(found, (unit - unit.mean(0)) @ whitening, atol=1e-5)
    adapter.add_nothing()
    assert torch.equal(adapter(features), features)
    with pytest.raises(InputError, match=r"head\.hidden=null"):
        ResidualAdapter(5, hidden=3, whitening=True)


def test_l2_sp_counts_how_far_each_weight_is_from_its_start(embedder: Embedder) -> None:
    penalty, nothing = L2SP(alpha=0.3, beta=0.02), torch.empty(0)
    penalty.begin(embedder, CPU)
    head = sum(float(w) ** 2 for p in embedder.head.parameters() for w in p.detach().flatten())
    assert penalty(embedder, nothing, nothing).item() == pytest.approx(0.01 * head)
    before = [p.detach().clone() for p in embedder.backbone.parameters()]
    with torch.no_grad():
        for part in embedder.backbone.parameters():
            part += torch.randn(part.shape)
    after = list(embedder.backbone.parameters())
    far = sum(
        (float(b) - float(a)) ** 2
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old.flatten(), new.detach().flatten(), strict=True)
    )
    found = penalty(embedder, nothing, nothing)
    assert found.item() == pytest.approx(0.15 * far + 0.01 * head, rel=1e-4)
    found.backward()
    gradient = after[0].grad
    assert gradient is not None
    torch.testing.assert_close(gradient, 0.3 * (after[0] - before[0]).detach())


def test_distillation_is_one_minus_the_cosine_to_the_start(embedder: Embedder) -> None:
    penalty = Distillation(weight=2.0)
    embedder.eval()
    penalty.begin(embedder, CPU)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    assert penalty(embedder, images, embedder(images)).item() == pytest.approx(0, abs=1e-6)
    start = embedder(images).detach().double().numpy()
    other = moved(embedder)
    found = penalty(other, images, other(images))
    now = other(images).detach().double().numpy()
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(start, now, strict=True)
    ]
    assert found.item() == pytest.approx(2 * np.mean([1 - cosine for cosine in cosines]), rel=1e-5)
    found.backward()
    assert all(p.grad is None for p in penalty.teacher[0].parameters())


def test_the_verdicts_of_many_runs_are_counted() -> None:
    fact = {"frozen": 0.5, "trained": 0.6, "low": 0.05, "high": 0.15, "p": 0.001}
    findings = ["better", "worse", "better", "better", "better"]
    runs = [
        SavedRun(Path(f"run{n}"), {"verdict": {"map": {**fact, "finding": each}}}, {}, {}, {})
        for n, each in enumerate(findings)
    ]
    (text,) = on_verdicts(runs, "map")
    assert text.endswith("4 better; 1 worse (run1).")
    assert on_verdicts(runs, "recall_at_1") == []
    (alone,) = on_verdicts(runs[1:2], "map")
    assert "significantly worse than" in alone
    assert "0.6000 and 0.5000, difference +0.1000" in alone


def metrics(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "metrics.json").read_text())


def map_at_r(vectors: NDArray[np.float64], labels: list[str]) -> float:
    """The mean over queries of the precision at relevant ranks up to R, by a double loop."""
    values = []
    for query, vector in enumerate(vectors):
        order = np.argsort(-(vectors @ vector), kind="stable")
        hits = [labels[other] == labels[query] for other in order if other != query]
        relevant = sum(hits)
        found = [sum(hits[: place + 1]) / (place + 1) for place in range(relevant) if hits[place]]
        values.append(sum(found) / relevant)
    return float(np.mean(values))


def test_the_frozen_backbone_stands_beside_the_trained_network(
    cli: Cli, tiny: tuple[str, ...]
) -> None:
    cli("train", *tiny, "hydra.run.dir=run", "learning_rate.backbone=0")  # so it is as it began
    written = metrics("run")
    checkpoint = read_checkpoint("run/checkpoints/best.ckpt")
    network, view = checkpoint.embedder(), checkpoint.transform()
    with Path("run/split.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    root = checkpoint.config["data"]["root"]
    for part in ("val", "test"):
        own = [row for row in rows if row["split"] == part]
        images = view([as_tensor(read_image(Path(root) / row["path"])) for row in own])
        with torch.inference_mode():
            features = network.features(images).double().numpy()
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        wanted = map_at_r(unit, [row["class_name"] for row in own])
        assert written[f"frozen/{part}/map_at_r"] == pytest.approx(wanted, abs=1e-6)
    assert written["frozen/test/map_at_r"] != written["epoch_0/test/map_at_r"]
    verdict = written["verdict"]["map_at_r"]
    assert verdict["frozen"] == pytest.approx(written["frozen/test/map_at_r"])
    assert verdict["trained"] == pytest.approx(written["test/map_at_r"])
    assert verdict["low"] <= verdict["trained"] - verdict["frozen"] <= verdict["high"]


@pytest.fixture
def spoilt(cli: Cli, tiny: tuple[str, ...], monkeypatch: Any) -> Callable[..., float]:
    """A training whose best epoch validates worse than its start."""
    fit = Experiment.fit

    def worse(self: Experiment, resume: str | None = None) -> Checkpoint:
        best = fit(self, resume)
        start = read_checkpoint(self.start).scores[f"epoch_0/{self.plan.monitored}"]
        return replace(best, scores={**best.scores, self.plan.monitored: start - 0.25})

    monkeypatch.setattr(Experiment, "fit", worse)
    return lambda *more: cli("train", *tiny, "hydra.run.dir=run", "learning_rate.head=1", *more)


def test_a_mixed_run_never_ends_below_its_start(spoilt: Any, class_folders: Path) -> None:
    value = spoilt("head=adapter", "ensemble=wise_ft", "ensemble.alphas=[0,1]")
    written = metrics("run")
    assert written["alpha"] == 0
    assert set(written["alphas"]) == {"0", "1"}
    assert written["alphas"]["1"] == written["alphas"]["0"] - 0.25
    for name in ("map_at_r", "recall_at_1", "map"):
        for part in ("val", "test"):
            found = written[f"{part}/{name}"]
            assert found == written[f"epoch_0/{part}/{name}"] == written[f"frozen/{part}/{name}"]
    assert value == written["val/map_at_r"]
    assert written["verdict"]["map_at_r"]["p"] == 1
    mixed = read_checkpoint(written["checkpoint"])
    assert mixed.file.name == "mixed.ckpt"
    assert mixed.scores["val/map_at_r"] == value
    trained = read_checkpoint("run/checkpoints/last.ckpt").part("embedder")
    last = "head.last.weight"
    assert not mixed.part("embedder")[last].any()
    assert trained[last].any()
    images = sorted(class_folders.glob("*/*.png"))[:3]
    assert lookalike.load_embedder(mixed.file)(images).shape[0] == 3


def test_a_run_below_its_frozen_start_says_what_to_try(spoilt: Any) -> None:
    spoilt("trainer.max_epochs=2")
    told = Path("run/train.log").read_text()
    assert "Training made it worse: val MAP@R was" in told
    assert "Try experiment=adapt" in told
    assert "that of the frozen backbone: 0." in told


def test_a_start_is_kept_unless_a_gain_is_significant(cli: Cli, tiny: tuple[str, ...]) -> None:
    """Two validation classes are too few, whatever was learned."""
    cli("train", *tiny, "hydra.run.dir=run", "head=adapter", "ensemble=wise_ft",
        "ensemble.significantly=true", "evaluation.before_training=false",
        "evaluation.monitor=map", "learning_rate.head=1e-2", "head.whitening=true")  # fmt: skip
    written = metrics("run")
    assert written["alpha"] == 0
    if max(written["alphas"].values()) > written["alphas"]["0"]:
        assert "the start is kept" in Path("run/train.log").read_text()


def test_a_refit_is_mixed_by_the_same_share(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "hydra.run.dir=run", "evaluation.refit=true", "ensemble=wise_ft",
        "ensemble.alphas=[0.25]", "evaluation.before_training=false", "head=adapter",
        "learning_rate.head=1e-2")  # fmt: skip
    written = metrics("run")
    mixed, last = (
        read_checkpoint(f"run/refit/checkpoints/{name}.ckpt").part("embedder")["head.last.weight"]
        for name in ("mixed", "final")
    )
    assert written["checkpoint"].endswith("refit/checkpoints/mixed.ckpt")
    torch.testing.assert_close(mixed, 0.25 * last)
    assert last.any()


def test_penalties_are_logged_and_saved_nowhere(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "penalty=[l2_sp,distillation]", "hydra.run.dir=run",
        "evaluation.before_training=false", "trainer.log_every_n_steps=1")  # fmt: skip
    head, *_ = Path("run/metrics.csv").read_text().splitlines()
    assert "train/l2_sp" in head
    assert "train/distillation" in head
    checkpoint = read_checkpoint("run/checkpoints/last.ckpt")
    assert not [name for name in checkpoint.state if "teacher" in name or "start" in name]
    written = metrics("run")
    assert "verdict" not in written
    assert not [name for name in written if name.startswith("frozen")]
