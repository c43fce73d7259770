"""Two processes on the CPU score as one does."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.data.records import Records
from lookalike.evaluation import gathering, scoring
from lookalike.evaluation.gathering import gather_embeddings
from lookalike.evaluation.metrics import values_of
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import score
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment


def test_scores_of_ranks_equal_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ranks, one of them without any image."""
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
    alone = score(plan, everything, gather_embeddings(everything, records), records)

    shares = [everything[1::2], everything[::2], everything[:0]]
    apart = replace(everything, exclusion_ids=records.exclusion_ids)
    gallery = apart[roles != "query"]
    asked = [apart[share.ids][roles[share.ids] != "gallery"] for share in shares]
    search = partial(plan.rerank, everything=everything)
    values = [(each.ids, values_of(each, gallery, plan.k, True, search=search)) for each in asked]

    def gathered(own: object) -> list[object]:
        return list(shares if isinstance(own, Embeddings) else values)

    monkeypatch.setattr(gathering, "gather", gathered)
    monkeypatch.setattr(scoring, "gather", gathered)
    assert score(plan, shares[0], gather_embeddings(shares[0], records), records) == alone


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


@pytest.mark.slow
def test_two_processes_equal_one(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """Learning rates of zero keep the weights, so that only the measuring differs."""
    still = ("learning_rate.backbone=0", "learning_rate.head=0", "data.eval_batch_size=7")
    one, two = (scores_in(train_in_processes(n, tmp_path, *tiny, *still)) for n in (1, 2))
    assert len(one) == 40
    assert one == two


@pytest.mark.slow
def test_two_processes_validate_the_network_that_is_saved(
    tiny: tuple[str, ...], tmp_path: Path, compose: Any
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
    folder = train_in_processes(2, tmp_path, *overrides)
    experiment = Experiment(compose("train", *overrides), tmp_path)
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    experiment.learner.load_state_dict(checkpoint.state)
    again = experiment.measure("")
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
