"""The disk cache: the same pixels, built once, and rebuilt when anything changes."""

import errno
import os
import pickle
import random
import shutil
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data import cache, manifest
from lookalike.data.cache import cached_images
from lookalike.data.decoding import decode
from lookalike.errors import InputError


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Noise of different shapes: JPEG and PNG, wide, tall and small."""
    rng = np.random.default_rng(0)
    files = []
    for number, (height, width) in enumerate([(40, 60), (60, 40), (20, 20), (24, 90), (31, 17)]):
        file = tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(file)
        files.append(str(file))
    return files


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def test_full_size_images_are_those_of_the_files(paths: list[str], tmp_path: Path) -> None:
    cached = cached_images(paths, None, tmp_path / "cache")
    assert len(cached) == 5
    for row, path in enumerate(paths):
        torch.testing.assert_close(cached[row], decode(path), rtol=0, atol=0)


def test_large_images_are_shrunk_and_small_ones_kept(paths: list[str], tmp_path: Path) -> None:
    cached = cached_images(paths, 24, tmp_path / "cache")
    shapes = [tuple(cached[row].shape[1:]) for row in range(5)]
    assert shapes == [(24, 36), (36, 24), (20, 20), (24, 90), (31, 17)]


def test_built_once_and_shared(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = cache._build
    monkeypatch.setattr(cache, "_build", lambda *a: (built.append(a), build(*a)))
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: cached_images(paths, 24, tmp_path / "cache"), range(4)))
    assert len(built) == 1
    assert all(torch.equal(several[0][3], other[3]) for other in several)


def test_rebuilt_when_a_file_or_a_setting_changes(paths: list[str], tmp_path: Path) -> None:
    root = tmp_path / "cache"
    cached_images(paths, 24, root)
    cached_images(paths, 20, root)
    assert len(folders(root)) == 2
    Image.new("RGB", (40, 40), (9, 8, 7)).save(paths[0])
    changed = cached_images(paths, 24, root)
    assert len(folders(root)) == 3
    assert changed[0][:, 0, 0].tolist() == [9, 8, 7]


def test_a_truncated_cache_is_built_anew(
    paths: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = cached_images(paths, 24, tmp_path / "cache").folder
    os.truncate(folder / "pixels.bin", 100)
    again = cached_images(paths, 24, tmp_path / "cache")
    assert "damaged (pixels.bin has 100 bytes, expected" in caplog.text
    assert again[4].shape == (3, 31, 17)


def test_a_build_that_fails_leaves_nothing(paths: list[str], tmp_path: Path) -> None:
    Path(paths[3]).write_bytes(b"no image")
    with pytest.raises(InputError, match="can't read the image"):
        cached_images(paths, 24, tmp_path / "cache")
    assert not folders(tmp_path / "cache")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can't read the image .*gone\.jpg"):
        cached_images([str(tmp_path / "gone.jpg")], 24, tmp_path / "cache")


def test_a_full_disk_is_told_before_the_work(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 990, 10))
    with pytest.raises(InputError, match=r"has 0\.0 GB free.*data\.cache=none"):
        cached_images(paths, 24, tmp_path / "cache")
    assert not folders(tmp_path / "cache")


def test_workers_map_the_file_themselves(paths: list[str], tmp_path: Path) -> None:
    cached = cached_images(paths, 24, tmp_path / "cache")
    sent = pickle.dumps(cached)
    assert len(sent) < 1000  # bytes: no pixels travel
    torch.testing.assert_close(pickle.loads(sent)[1], cached[1])


def test_writing_to_an_image_leaves_the_file(paths: list[str], tmp_path: Path) -> None:
    cached = cached_images(paths, 24, tmp_path / "cache")
    before = (cached.folder / "pixels.bin").read_bytes()
    cached[0].zero_()
    assert (cached.folder / "pixels.bin").read_bytes() == before


def test_a_read_only_cache_is_read(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared by others, so that no lock can be written; root may write anywhere."""
    cached_images(paths, 20, tmp_path)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("lookalike.data.cached_folder.FileLock", read_only)
    assert len(cached_images(paths, 20, tmp_path)) == len(paths)
    with pytest.raises(InputError, match=r"Read-only file system.*paths\.cache"):
        cached_images(paths[:1], 20, tmp_path)


def zero_half(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)


def permute(file: Path) -> None:
    content = file.read_bytes()
    third = len(content) // 3
    file.write_bytes(content[third:] + content[:third])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("name", ["pixels.bin", "shapes.npy", "manifest.json"])
@pytest.mark.parametrize("damage", [zero_half, permute, flip, empty, Path.unlink])
def test_a_damaged_cache_is_made_again(
    damage: Callable[[Path], None],
    name: str,
    paths: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = cached_images(paths, 24, tmp_path / "cache").folder
    expected = [cached_images(paths, 24, tmp_path / "cache")[row].clone() for row in range(5)]
    damage(folder / name)
    caplog.clear()
    again = cached_images(paths, 24, tmp_path / "cache")
    assert all(torch.equal(again[row], image) for row, image in enumerate(expected))
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "is damaged" in warnings[0]
    assert "is made again" in warnings[0]
    caplog.clear()
    cached_images(paths, 24, tmp_path / "cache")
    assert not caplog.records


def test_of_a_large_cache_a_sample_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "BLOCK", 100)
    monkeypatch.setattr(manifest, "SAMPLED", 32)
    (tmp_path / "pixels.bin").write_bytes(np.random.default_rng(0).bytes(100_050))
    manifest.write_manifest(tmp_path)
    read = []
    checksum = manifest._checksum
    monkeypatch.setattr(manifest, "_checksum", lambda *a: (read.append(a), checksum(*a))[1])
    manifest.check_manifest(tmp_path)
    first = set(read)
    assert len(first) == 32
    manifest.check_manifest(tmp_path)
    assert set(read[32:]) != first
    zero_half(tmp_path / "pixels.bin")
    with pytest.raises(ValueError, match=r"pixels\.bin differs from its checksum"):
        manifest.check_manifest(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"format": 99, "files": {}}',
                                     '{"format": 1, "files": [1]}'])  # fmt: skip
def test_checksums_that_can_not_be_read(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match="its checksums"):
        manifest.check_manifest(tmp_path)


def test_comparing_draws_no_random_number(paths: list[str], tmp_path: Path) -> None:
    cached_images(paths, 24, tmp_path)
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    cached_images(paths, 24, tmp_path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_a_disk_that_fills_up_meanwhile_is_explained(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> tuple[int, ...]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_append", full)
    with pytest.raises(InputError, match=r"No space left on device.*data\.cache=none"):
        cached_images(paths, 24, tmp_path / "cache")
    assert not folders(tmp_path / "cache")
