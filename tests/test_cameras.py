"""Simulated cameras: how one changes an image, which takes which, and which images are queries."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.data.decoding import read_image
from lookalike.data.sources.cameras import Camera, Cameras
from lookalike.data.sources.folder import Folder
from lookalike.errors import InputError


def cameras(class_folders: Path, root: Path, **settings: int) -> Cameras:
    settings = {"cameras": 3, "seed": 0} | settings
    return Cameras(Folder(str(class_folders)), str(root), **settings)


def test_a_camera_changes_every_image_in_the_same_way() -> None:
    grey = Image.new("RGB", (100, 60), (100, 100, 100))
    camera = Camera((1.2, 1.0, 0.5), blur=0.01, left=0.0, top=1.0)
    seen = np.asarray(camera.take(grey))
    assert seen.shape == (48, 80, 3)
    np.testing.assert_array_equal(seen, np.broadcast_to([120, 100, 50], seen.shape))


def test_a_window_lies_where_it_should() -> None:
    pixels = np.zeros((50, 50, 3), np.uint8)
    pixels[:, :10] = 200  # the left fifth
    sees_left = Camera((1, 1, 1), blur=0, left=0.0, top=0.5).take(Image.fromarray(pixels))
    misses_left = Camera((1, 1, 1), blur=0, left=1.0, top=0.5).take(Image.fromarray(pixels))
    assert np.asarray(sees_left)[:, :10].min() == 200
    assert np.asarray(misses_left).max() == 0


def test_cameras_differ_and_stay_the_same() -> None:
    drawn = [Camera.draw(0, number) for number in range(6)]
    assert len({camera.gains for camera in drawn}) == 6
    assert drawn == [Camera.draw(0, number) for number in range(6)]
    gains = np.array([Camera.draw(seed, 0).gains for seed in range(200)])
    assert 0.54 < gains.min() < gains.max() < 1.83


def test_records_of_cameras(class_folders: Path, tmp_path: Path) -> None:
    source = cameras(class_folders, tmp_path)
    with pytest.raises(InputError, match=r"call prepare\(\) first"):
        source.records()
    source.prepare()
    records = source.records()
    inner = source.source.records()
    np.testing.assert_array_equal(records.labels, inner.labels)
    assert set(records.groups) == {"c1", "c2", "c3"}
    assert set(records.labels[records.ids("train")]) == set(range(8))
    assert set(records.roles[records.ids("train")]) == {"both"}
    asked = records.ids("test")[records.roles[records.ids("test")] == "query"]
    pairs = [(records.labels[row], records.groups[row]) for row in asked]
    assert len(pairs) == len(set(pairs))  # one query an identity and camera
    testing = records.ids("test")
    assert set(pairs) == {(records.labels[row], records.groups[row]) for row in testing}
    first, original = read_image(records.paths[0]), read_image(inner.paths[0])
    assert first.size == (round(0.8 * original.width), round(0.8 * original.height))


def test_copies_are_cached_for_each_setting(class_folders: Path, tmp_path: Path) -> None:
    source = cameras(class_folders, tmp_path)
    source.prepare()
    times = {file: file.stat().st_mtime_ns for file in source.folder.iterdir()}
    assert len(times) == 96 + 1  # and their checksums
    source.prepare()
    assert times == {file: file.stat().st_mtime_ns for file in source.folder.iterdir()}
    others = [cameras(class_folders, tmp_path, seed=1), cameras(class_folders, tmp_path, cameras=4)]
    assert len({source.folder, *(other.folder for other in others)}) == 3
