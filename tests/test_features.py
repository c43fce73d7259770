"""The feature cache: a frozen backbone processes every image once, and training is the same."""

import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.data.features import cached_features
from lookalike.errors import InputError
from lookalike.training.experiment import Experiment

FROZEN = ("freeze=all", "data.cache=features", "trainer.precision=32-true")


@pytest.fixture
def experiment(compose: Any, tiny: tuple[str, ...], tmp_path: Path) -> Any:
    """experiment("loss=triplet") -> an Experiment on 16 classes, its caches in tmp_path."""

    runs = count()

    def make(*overrides: str) -> Experiment:
        config = compose("train", *tiny, f"data.cache_folder={tmp_path}", *overrides)
        return Experiment(config, tmp_path / f"run{next(runs)}")

    return make


def test_measured_features_are_the_backbones(experiment: Any) -> None:
    frozen = experiment(*FROZEN)
    embedder = frozen.learner.embedder.eval()
    kept = next(iter(frozen.data.val_dataloader()))
    frozen.data.features = {}
    images = next(iter(frozen.data.val_dataloader()))
    assert kept.ids.tolist() == images.ids.tolist()
    with torch.inference_mode():
        torch.testing.assert_close(kept.images, embedder.features(images.images))
        torch.testing.assert_close(embedder(kept.images), embedder(images.images))


def test_scores_equal_those_of_training_from_images(experiment: Any) -> None:
    """Without augmentation there is one view, and nothing else may differ."""
    plain = ("transform=none", "trainer.max_epochs=2", "data.feature_views=0")
    from_images = experiment("freeze=all", "trainer.precision=32-true", *plain[:2]).fit()
    from_features = experiment(*FROZEN, *plain).fit()
    assert from_features.scores.keys() == from_images.scores.keys()
    for name, value in from_images.scores.items():
        assert from_features.scores[name] == pytest.approx(value, abs=1e-6)


def test_random_views_of_training_images_only(experiment: Any) -> None:
    frozen = experiment(*FROZEN, "data.feature_views=3")
    views = frozen.data.features["train"].views
    trained = frozen.data.records.ids("train")
    others = np.setdiff1d(np.arange(len(frozen.data.records)), trained)
    assert len(views) == 3
    assert np.abs(views[0] - views[1])[trained].max() > 0
    assert not views[:, others].any()
    torch.manual_seed(0)
    drawn = {frozen.data.features["train"][trained[0]][0].item() for _ in range(50)}
    assert drawn == {float(view[trained[0], 0]) for view in views}


def test_computed_once_for_the_same_network(
    experiment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders() -> int:
        return sum(path.is_dir() for path in tmp_path.glob("features-*"))

    experiment(*FROZEN)
    assert folders() == 2  # of the train and of the test view
    experiment(*FROZEN, "loss=triplet")
    assert folders() == 2
    experiment(*FROZEN, "seed=1")  # another random backbone
    assert folders() == 4


@pytest.mark.parametrize("choice", ["freeze=none", "freeze=batch_norm", "pooling=gem"])
def test_a_backbone_that_learns_is_refused(experiment: Any, choice: str) -> None:
    freeze = [] if choice.startswith("freeze") else ["freeze=all"]
    with pytest.raises(InputError, match=r"data\.cache=features .* freeze=all"):
        experiment("data.cache=features", choice, *freeze)


@pytest.mark.parametrize(
    "change",
    [
        ["backbone.mean=[0.4,0.5,0.5]"],
        ["backbone.std=[0.4,0.5,0.5]"],
        ["+pooling.eps=1e-3"],
        ["channels_last=false"],
        ["transform=crop", "data.transform.test.resize=24"],
    ],
)
def test_other_settings_have_other_features(
    experiment: Any, tmp_path: Path, change: list[str]
) -> None:
    gem = ("pooling=gem", "pooling.learn=false", "transform=crop")
    experiment(*FROZEN, *gem)
    before = set(tmp_path.glob("features-*/"))
    experiment(*FROZEN, *gem[: 2 if "transform=crop" in change else 3], *change)
    assert set(tmp_path.glob("features-*/")) > before


SLOW_VIEWS = [pytest.param(view, marks=pytest.mark.slow) for view in ("four_views", "rotate_flip")]


@pytest.mark.parametrize("view", ["crop", "none", *SLOW_VIEWS])
def test_the_same_views_have_the_same_features(experiment: Any, tmp_path: Path, view: str) -> None:
    experiment(*FROZEN, f"transform={view}")
    before = set(tmp_path.glob("features-*/"))
    experiment(*FROZEN, f"transform={view}")
    assert set(tmp_path.glob("features-*/")) == before
    code = (
        "from lookalike.data.features import description\n"
        "from lookalike.data.transforms import FourViews, RandomViews\n"
        "print(description([FourViews(20), RandomViews(20, rotation=90, jitter=0.1)]))"
    )
    shown = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        for _ in range(2 if view == "four_views" else 0)
    }
    assert len(shown) <= 1
    assert not any("0x" in each for each in shown)


@pytest.mark.parametrize("damage", ["zeroed", "permuted", "empty"])
def test_damaged_features_are_computed_again(
    damage: str, experiment: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = experiment(*FROZEN).data.features["test"].views.copy()
    for file in tmp_path.glob("features-*/views.npy"):
        content = bytearray(file.read_bytes())
        half = 128 + (len(content) - 128) // 2  # the array begins behind a header of 128 bytes
        changed = {
            "zeroed": content[:half] + bytes(len(content) - half),
            "permuted": content[:128] + content[half:] + content[128:half],
            "empty": b"",
        }
        file.write_bytes(changed[damage])
    caplog.clear()
    again = experiment(*FROZEN).data.features["test"].views
    np.testing.assert_array_equal(again, before)
    warnings = [each.message for each in caplog.records if "is made again" in each.message]
    assert len(warnings) == 2  # of the train and of the test view


def test_features_that_the_disk_has_no_room_for(tmp_path: Path) -> None:
    """More than any disk has: an error, where filling a map of them would be a signal."""
    shape, passes = (10**9, 10**5), [[]]
    with pytest.raises(InputError, match=r"can't write .*features-x: .*data\.cache=none"):
        cached_features(tmp_path, "x", lambda images: images, passes, shape)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


SMALL_DISK = """
mount -t tmpfs -o size=2m none "$1" && exec "$2" -c '
import numpy as np, sys, torch
from lookalike.data.features import cached_features
from lookalike.errors import InputError
batch, shape = (torch.zeros(1, 3, 2, 2), torch.zeros(1), torch.arange(1)), (1, 1 << 20)
try:
    cached_features(sys.argv[1], "x", lambda images: torch.ones(shape), [[batch]], shape)
except InputError as error:
    print("explained:", error)
' "$1"
"""


@pytest.mark.slow
def test_a_full_disk_ends_by_no_signal(tmp_path: Path) -> None:
    """On a file system of 2 MB, which is mounted in a namespace of its own."""
    command = ["unshare", "-rm", "sh", "-c", SMALL_DISK, "sh", str(tmp_path), sys.executable]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no file system can be mounted here")
    shown = subprocess.run(command, capture_output=True, text=True)
    assert "explained: can't write" in shown.stdout, shown.stderr
    assert "No space left on device" in shown.stdout
    assert shown.returncode == 0
