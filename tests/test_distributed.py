"""Several processes on the CPU score, and with one loss train, as one does."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike import distributed
from lookalike.data.records import Records
from lookalike.evaluation.gathering import gather_embeddings
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import measure
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.losses.classifier import EmbeddingClassifier
from lookalike.retrieval.embeddings import Embeddings, collect
from lookalike.training.experiment import Experiment
from processes import in_processes


@pytest.mark.parametrize("count", [2, 3])
def test_rows_of_any_number_are_gathered(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rank 0 none, of others more than are exchanged at once."""
    monkeypatch.setattr(distributed, "ROWS", 3)

    def rows_of(rank: int) -> torch.Tensor:
        return torch.arange(rank * 14.0, dtype=torch.float64).reshape(-1, 2) + rank

    def gathered(rank: int) -> list[Any]:
        none = [len(part) for part in distributed.gather(torch.zeros(0, 4))]
        return [none, *(part.numpy() for part in distributed.gather(rows_of(rank)))]

    for none, *parts in in_processes(count, tmp_path, gathered):
        assert none == [0] * count
        for rank, part in enumerate(parts):
            assert part.dtype == np.float64
            np.testing.assert_array_equal(part, rows_of(rank))


def test_scores_of_ranks_equal_those_of_one_process(tmp_path: Path) -> None:
    """Three ranks: one without any image, and one with an image that another has, too."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    everything = Embeddings(vectors, rng.integers(0, 7, 50), np.arange(50))
    roles = np.array(["both", "query", "gallery"])[rng.integers(0, 3, 50)]
    plan = Evaluation()
    cameras = [f"c{number}" for number in rng.integers(0, 3, 50)]
    records = Records.create(
        ["x.png"] * 50, [str(label) for label in everything.labels], roles=roles, groups=cameras
    )
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 7)
    names = sorted({str(label) for label in everything.labels})
    classifier = EmbeddingClassifier(linear, tuple(names), torch.device("cpu"))
    shares = [everything[1::2], everything[:0], everything[np.array([*range(0, 50, 2), 1])]]

    def score_of(own: Embeddings) -> dict[str, float]:
        return measure(plan, own, gather_embeddings(own, records), records, classifier).scores

    alone = score_of(everything)
    assert "loss" in alone
    assert in_processes(3, tmp_path, lambda rank: score_of(shares[rank])) == [alone] * 3


def test_a_rank_without_images_gathers_those_of_the_others(tmp_path: Path) -> None:
    records = Records.create(["x.png"] * 3, ["a", "a", "b"])
    vectors = np.eye(3, dtype=np.float32)

    def gathered(rank: int) -> Any:
        own = collect([]) if rank else Embeddings(vectors, records.labels, np.arange(3))
        return gather_embeddings(own, records).vectors

    for found in in_processes(2, tmp_path, gathered):
        np.testing.assert_array_equal(found, vectors)


def train_in_processes(count: int, tmp_path: Path, *overrides: str) -> Path:
    """The run folder of `train` on the CPU, in one or several processes."""
    trainer = ("trainer=cpu",) if count == 1 else ("trainer=ddp", "trainer.accelerator=cpu")
    command = [
        sys.executable, "-m", "lookalike", "train", *overrides, *trainer,
        f"trainer.devices={count}", "trainer.precision=32-true", f"hydra.run.dir=run{count}",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, check=True, env=environment, timeout=300)
    return tmp_path / f"run{count}"


def scores_in(folder: Path) -> dict[str, float]:
    written = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in written.items() if "/" in name}


def curve_in(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]


@pytest.mark.slow
def test_several_processes_measure_as_one(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """Learning rates of zero keep the weights, so that only the measuring differs."""
    still = ("learning_rate.backbone=0", "learning_rate.head=0", "data.eval_batch_size=7")
    one, two, three = (scores_in(train_in_processes(n, tmp_path, *tiny, *still)) for n in (1, 2, 3))
    assert len(one) == 60
    assert one == two == three


@pytest.mark.slow
def test_several_processes_measure_fewer_images_than_they_are(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Two images for validation: a third process reads one of them, too."""
    rows = ["path,label,split"]
    root = next(each for each in tiny if each.startswith("data.root=")).partition("=")[2]
    for label in range(4):
        for image in range(6 if label else 2):
            split = "train" if label > 1 else "test" if label else "val"
            rows.append(f"{root}/class{label:02d}/{image}.png,{label},{split}")
    (tmp_path / "few.csv").write_text("\n".join(rows))
    few = ("data=table", f"data.source.file={tmp_path / 'few.csv'}", "data.protocol=official",
           "learning_rate.backbone=0", "learning_rate.head=0", "data.batch_size=4")  # fmt: skip
    one, three = (scores_in(train_in_processes(n, tmp_path, *tiny, *few)) for n in (1, 3))
    assert one["val/queries"] == 2
    assert one == three


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "loss"),
    [
        (2, ("loss=softmax_triplet", "sampler=uniform")),
        (3, ("loss=cross_batch_memory", "loss.memory_size=40")),
    ],
)
def test_a_global_loss_trains_as_one_process_does(
    count: int, loss: tuple[str, ...], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """The same images in the same batches; without random views, which each process draws."""
    own = (*tiny, *loss, "transform=none", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
    one = train_in_processes(1, tmp_path, *own, "data.batch_size=12")
    several = train_in_processes(count, tmp_path, *own, f"data.batch_size={12 // count}")
    curve = curve_in(one)
    assert len(set(curve)) > 4
    np.testing.assert_allclose(curve_in(several), curve, rtol=1e-4)
    states = [read_checkpoint(f / "checkpoints" / "last.ckpt").state for f in (one, several)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)
    setting = json.loads((several / "metrics.json").read_text())["setting"]
    assert f"{count} processes with one loss of all their images" in setting


@pytest.mark.slow
@pytest.mark.parametrize("averaging", [(), ("averaging=ema", "averaging.decay=0.5")])
def test_two_processes_validate_the_network_that_is_saved(
    averaging: tuple[str, ...], tiny: tuple[str, ...], tmp_path: Path, compose: Any
) -> None:
    """Each process has batch norm statistics of its own until they are made equal.

    The classifier's loss changes with every digit of them.
    """
    overrides = (
        *tiny,
        "backbone=tiny_batch_norm",
        "data.protocol=seen_classes",
        "data.folds=3",
        "loss=softmax",
    )
    folder = train_in_processes(2, tmp_path, *overrides, *averaging)
    experiment = Experiment(compose("train", *overrides), tmp_path)
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    experiment.learner.load_state_dict(checkpoint.state)
    again = experiment.validate()
    assert "val/loss" in checkpoint.scores
    assert {name: again[name] for name in checkpoint.scores} == checkpoint.scores


@pytest.mark.slow
def test_two_processes_compute_features_and_components_of_every_image(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Also in the refit, which begins when the processes already know of each other."""
    overrides = (
        *tiny, "freeze=all", "head=principal_components", "data.cache=features",
        "evaluation.refit=true", "learning_rate.head=0", "loss=softmax", "learning_rate.loss=0",
    )  # fmt: skip
    kept, scores = [], []
    for count in (1, 2):
        caches = tmp_path / f"caches{count}"
        folder = train_in_processes(count, tmp_path, *overrides, f"data.cache_folder={caches}")
        scores.append(scores_in(folder))
        files = sorted(caches.glob("features-*/views.npy"))
        kept.append({file.parent.name: np.load(file) for file in files})
    assert len(kept[0]) == 3  # the test view, and the train view of both fits
    assert kept[0].keys() == kept[1].keys()
    for name, views in kept[0].items():
        np.testing.assert_array_equal(views, kept[1][name])
    assert scores[0] == scores[1]
