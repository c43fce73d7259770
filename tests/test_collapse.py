"""Embeddings that have become the same for all images are said, with what to try."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from torch.nn import Linear

from conftest import Compose
from lookalike.evaluation.callback import COLLAPSED, _warn_of_collapse
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment
from lookalike.training.start import measured_start

SAID = "The embeddings have collapsed"


def around(angle: float) -> Embeddings:
    """Five unit vectors in the plane, each turned by one more angle, in radians."""
    turned = angle * np.arange(5)
    vectors = np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)
    return Embeddings(vectors, np.arange(5), np.arange(5))


@pytest.mark.parametrize("angle", [0.0, 0.004, 0.0062, 0.0065, 0.1])
def test_the_mean_distance_of_all_pairs_decides(
    angle: float, caplog: pytest.LogCaptureFixture
) -> None:
    distances = [1 - np.cos(angle * (b - a)) for a, b in combinations(range(5), 2)]
    _warn_of_collapse(around(angle))
    assert (SAID in caplog.text) == bool(np.mean(distances) < COLLAPSED)
    if angle == 0.004:
        assert f"two images is {np.mean(distances):.1g}, so that" in caplog.text
        assert "Try a tenth of the learning rates" in caplog.text


def test_a_single_image_has_not_collapsed(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_collapse(around(0.0)[:1])
    assert caplog.text == ""


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_training_says_so_and_a_measurement_before_it_does_not(
    collapsed: bool, tiny: tuple[str, ...], compose: Compose, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    still = ("learning_rate.backbone=0", "learning_rate.head=0", "trainer.precision=32-true")
    config = compose("train", *tiny, *still, "data.sampler.batches_per_epoch=1")
    experiment = Experiment(config, tmp_path / "run")
    if collapsed:  # the head answers with its bias, whatever the image
        (linear,) = (m for m in experiment.learner.embedder.head.modules() if isinstance(m, Linear))
        nn.init.zeros_(linear.weight)
        nn.init.ones_(linear.bias)
    measured_start(experiment, "epoch_0/")
    assert SAID not in caplog.text
    experiment.fit()
    assert (SAID in caplog.text) == collapsed
