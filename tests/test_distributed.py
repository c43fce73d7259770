"""Two processes on the CPU score as one does."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lookalike.data.records import Records
from lookalike.evaluation import gathering, scoring
from lookalike.evaluation.gathering import gather_embeddings
from lookalike.evaluation.metrics import values_of
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import score
from lookalike.retrieval.embeddings import Embeddings


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


@pytest.mark.slow
def test_two_processes_equal_one(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """Learning rates of zero keep the weights, so that only the measuring differs."""
    still = ("learning_rate.backbone=0", "learning_rate.head=0", "trainer.precision=32-true")
    found = []
    for devices, trainer in ((1, "cpu"), (2, "ddp")):
        command = [
            sys.executable, "-m", "lookalike", "train", *tiny, f"trainer={trainer}", *still,
            "trainer.accelerator=cpu", f"trainer.devices={devices}", "trainer.max_epochs=1",
            f"hydra.run.dir=run{devices}", "data.eval_batch_size=7",
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=tmp_path, check=True, env=environment, timeout=300)
        found.append(json.loads((tmp_path / f"run{devices}" / "metrics.json").read_text()))
    names = [name for name in found[0] if "/" in name]
    assert len(names) == 40
    assert {name: found[0][name] for name in names} == {name: found[1][name] for name in names}
