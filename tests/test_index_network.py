"""The network of an index: exported or not, the neighbours are the same, and it stays with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike import Index, load_embedder
from lookalike.errors import InputError
from lookalike.inference.checkpoint import CHECKSUM, FORMAT, write_content
from lookalike.inference.export import exported, write_exported
from lookalike.inference.network import network_in
from lookalike.inference.pretrained import pretrained_content
from lookalike.inference.shared import write_folder
from lookalike.models.siamese import siamese_backbone
from lookalike.provenance import weights_fingerprint
from test_export import needs_onnxruntime, pictures

Cli = Callable[..., Any]
POOLING = {"_target_": "lookalike.models.pooling.AveragePooling"}
SIAMESE = {"channels": [8], "hidden": [16], "image_size": 20, "mean": [0.5] * 3, "std": [0.5] * 3}
pytestmark = needs_onnxruntime


def saved_twice(folder: Path) -> tuple[Path, Path]:
    """A tiny network as a checkpoint, and the same exported."""
    torch.manual_seed(0)
    torch.save(siamese_backbone(**SIAMESE).network.state_dict(), folder / "w.pth")
    backbone = {
        "_target_": "lookalike.models.siamese.siamese_backbone",
        "weights": str(folder / "w.pth"),
        **SIAMESE,
    }
    write_content(folder / "net.ckpt", pretrained_content(backbone, POOLING))
    network = network_in(folder / "net.ckpt")
    write_exported(folder / "net.onnx", exported(network, "onnx", [pictures(3, size=20)])[0])
    return folder / "net.ckpt", folder / "net.onnx"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return saved_twice(tmp_path_factory.mktemp("networks"))


def test_an_exported_network_finds_what_pytorch_finds(
    files: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    indexes = [Index.build(photos, tmp_path / file.suffix[1:], str(file), "cpu") for file in files]
    assert [len(each) for each in indexes] == [96, 96]
    assert sorted(each.name for each in indexes[1].store.folder.glob("network*")) == [
        "network.onnx"
    ]
    names = json.loads((tmp_path / "onnx" / "manifest.json").read_text())["files"]
    assert "network.onnx" in names
    assert indexes[0].info()["fingerprint"] == indexes[1].info()["fingerprint"]
    queries = sorted(photos.glob("*/3.png"))
    found = [index.search(queries, k=9) for index in indexes]
    for one, other in zip(*found, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        np.testing.assert_allclose([h.score for h in one], [h.score for h in other], atol=1e-5)
    assert indexes[1].embedder.checkpoint is None


def test_it_is_kept_asked_and_changed_without_the_file(
    files: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    copy = shutil.copy(files[1], tmp_path / "elsewhere.onnx")
    Index.build(photos, tmp_path / "i", copy, "cpu")
    Path(copy).unlink()
    index = Index.load(tmp_path / "i", "cpu")
    Image.new("RGB", (30, 30), "red").save(photos / "class00" / "red.png")
    assert index.update()["added"] == 1
    index.check()
    expected = load_embedder(files[0])(photos / "class00" / "red.png")
    np.testing.assert_allclose(index.vector(96), expected, atol=1e-5)
    (index.store.folder / "network.onnx").write_bytes(files[1].read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged"):
        Index.load(tmp_path / "i", "cpu").check()


def test_an_index_begun_with_one_is_not_gone_on_with_the_other(
    files: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "i").mkdir()
    shutil.copy(files[1], tmp_path / "i" / "network.onnx")
    with pytest.raises(InputError, match="begun with another network"):
        Index.build(photos, tmp_path / "i", files[0], "cpu")
    assert len(Index.build(photos, tmp_path / "i", files[1], "cpu")) == 96
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="can't be read as an ONNX network"):
        Index.build(photos, tmp_path / "j", tmp_path / "broken.onnx", "cpu")
    assert not (tmp_path / "j").exists()


def test_the_verbs_take_an_exported_network(
    cli: Cli, files: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    workers = ("num_workers=0", "device=cpu")
    checkpoint, onnx = (f"checkpoint={file}" for file in files)
    assert cli("index", "action=build", f"images={photos}", "out=i", onnx, *workers) == 96
    cli("index", "action=build", f"images={photos}", "out=j", checkpoint, *workers)
    query = f"images={photos / 'class03'}"
    for name, given in {
        "a": ["index=i"], "b": ["index=j"], "c": ["index=i", onnx], "d": ["index=i", checkpoint],
    }.items():  # fmt: skip
        cli("search", query, "k=3", *workers, *given, f"hydra.run.dir={name}")
    written = [_ids(f"{name}/matches.json") for name in "abcd"]
    assert written[0] == written[1] == written[2] == written[3]


def test_a_shared_folder_is_a_network_too(
    files: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    checkpoint = network_in(files[0]).checkpoint
    assert checkpoint
    ours = {"format": FORMAT, "config": checkpoint.config, "scores": {}, "epochs": 0}
    ours |= {"class_names": [], CHECKSUM: weights_fingerprint(checkpoint.state)}
    write_folder(tmp_path / "shared", ours, checkpoint.state, "a card")
    index = Index.build(photos, tmp_path / "i", tmp_path / "shared", "cpu")
    assert index.info()["fingerprint"] == checkpoint.fingerprint()


def _ids(file: str) -> list[list[int]]:
    """Of the matches of every query, but for those at equal distance: sorted."""
    content = json.loads(Path(file).read_text())
    return [sorted(match["id"] for match in each["matches"]) for each in content]
