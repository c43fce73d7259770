"""Export: files that compute what PyTorch does, with their preprocessing, and what int8 costs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

import lookalike
from lookalike.config import build, config_folder
from lookalike.data.decoding import decode
from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.inference.export import exported, with_notes, write_exported
from lookalike.inference.int8 import in_int8
from lookalike.inference.network import Network, network_in, pretrained_network
from lookalike.models.backbones import Backbone
from lookalike.models.engines import is_installed
from lookalike.models.exported import KEY, ExportedNetwork
from lookalike.models.exporting import read_torch_export
from lookalike.models.pooling import AveragePooling
from lookalike.models.timm_backbone import timm_backbone

Cli = Callable[..., Any]

needs_onnxruntime = pytest.mark.skipif(
    not is_installed("onnxruntime"), reason='pip install "lookalike[onnxruntime]"'
)
pytestmark = needs_onnxruntime


def pictures(*shape: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, size, size), dtype=torch.uint8, generator=drawn)


def tiny_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 16, 3))
    backbone = Backbone(layers, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    return pretrained_network(backbone, AveragePooling(), "tiny")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    content, _ = exported(tiny_network(), "onnx", [pictures(4)])
    write_exported(tmp_path / "tiny.onnx", content)
    return tmp_path / "tiny.onnx"


@pytest.fixture
def trained(cli: Cli, tiny: tuple[str, ...]) -> str:
    cli("train", *tiny, "loss=triplet", "evaluation.before_training=false", "hydra.run.dir=run")
    return "run/checkpoints/best.ckpt"


def similar(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_file_computes_what_the_network_does_and_prepares_images_as_it_does(file: Path) -> None:
    network, loaded = tiny_network(), network_in(file)
    for count in (1, 2, 7, 33):
        images = pictures(count, seed=count)
        similar(loaded.embedder(images), network.embedder(images))
        similar(loaded.embedder.unnormalised(images), network.embedder.unnormalised(images))
    assert loaded.embedder.embedding_size == network.embedder.embedding_size == 16
    assert (loaded.fingerprint, loaded.name) == (network.fingerprint, "tiny")
    wide = list(pictures(2, size=90)[:, :, :50])
    np.testing.assert_array_equal(loaded.view(wide), network.view(wide))


def test_load_embedder_takes_files_arrays_and_pictures(file: Path, tmp_path: Path) -> None:
    embed = lookalike.load_embedder(file)
    pixels = pictures(1, size=40)[0]
    array = pixels.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "a.png")
    vectors = embed([tmp_path / "a.png", Image.fromarray(array), array, pixels])
    assert vectors.shape == (4, 16)
    similar(vectors, np.broadcast_to(vectors[0], (4, 16)))
    similar(np.linalg.norm(vectors, axis=1), 1)
    assert embed([]).shape == (0, 16)
    assert embed(array).shape == (16,)


@pytest.mark.slow
@torch.inference_mode()
def test_torch_export_keeps_the_network_and_its_notes() -> None:
    network = tiny_network()
    content, apart = exported(network, "torch_export", [pictures(4), pictures(1)])
    assert apart < 1e-5
    program = read_torch_export(content)
    for count in (1, 2, 9):
        images = pictures(count, seed=count)
        similar(program(images)[0], network.embedder(images))
    notes: dict[str, Any] = {KEY: ""}
    torch.export.load(_stream(content), extra_files=notes)
    assert json.loads(notes[KEY])["view"] == dict(network.view_config)


def _stream(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)


class Forgetful(nn.Module):
    """Adds the brightness of the first image it was traced with: a constant in the graph."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, ::4, ::4] + float(images.mean())


def test_a_file_that_differs_is_not_written(tmp_path: Path) -> None:
    network = pretrained_network(
        Backbone(Forgetful(), 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), AveragePooling(), "wrong"
    )
    with pytest.raises(InputError, match=r"differs from PyTorch by .* nothing was written"):
        exported(network, "onnx", [pictures(4), pictures(4, seed=1) // 4])


def test_files_that_are_none(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    with pytest.raises(InputError, match="no exported network at"):
        network_in(tmp_path / "nothing.onnx")
    for damaged in (b"", b"no network", content[: len(content) // 2]):
        with pytest.raises(InputError, match=r"can't be read as an ONNX network|does not say how"):
            ExportedNetwork(damaged, "x.onnx")
    with pytest.raises(InputError, match="does not say how images are prepared"):
        ExportedNetwork(with_notes(content, {KEY: "[]"}), "x.onnx")
    with pytest.raises(InputError, match="does not say how images are prepared"):
        ExportedNetwork(with_notes(content, {KEY: "{"}), "x.onnx")
    notes = ExportedNetwork(content, file).notes
    newer = with_notes(content, {KEY: json.dumps(notes | {"format": 99})})
    with pytest.raises(InputError, match="format 99"):
        ExportedNetwork(newer, "x.onnx")
    with pytest.raises(InputError, match="is exported already"):
        exported(network_in(file), "onnx", [pictures(2)])
    with pytest.raises(InputError, match=r"takes images \(3, 32, 32\), not \(3, 16, 16\)"):
        network_in(file).embedder(pictures(2, size=16))
    with pytest.raises(InputError, match="can't run an exported network"):
        lookalike.load_embedder(file, engine="openvino")


def test_a_file_does_not_decide_what_code_runs(file: Path, tmp_path: Path) -> None:
    notes = ExportedNetwork(file.read_bytes(), file).notes
    evil = notes | {"view": {"_target_": "os.system", "command": "true"}}
    (tmp_path / "evil.onnx").write_bytes(with_notes(file.read_bytes(), {KEY: json.dumps(evil)}))
    with pytest.raises(InputError, match=r"names os\.system"):
        network_in(tmp_path / "evil.onnx")


@pytest.mark.slow
def test_int8_is_measured_on_other_images_than_those_that_choose(
    class_folders: Path, file: Path
) -> None:
    paths = sorted(class_folders.glob("*/*.png"))
    every = Records.create(paths, [path.parent.name for path in paths])
    network, content = tiny_network(), file.read_bytes()
    choosing, testing = every.at(np.arange(0, 96, 2)), every.at(np.arange(1, 96, 2))
    quantised, cost = in_int8(network, content, choosing, testing, num_workers=0)
    run = ExportedNetwork(quantised, "int8")
    assert (run.notes["precision"], cost.images) == ("int8", 48)
    assert run.notes["fingerprint"] != network.fingerprint
    views = network.view([decode(path) for path in testing.paths.tolist()])
    with torch.inference_mode():
        whole, rounded = network.embedder(views).numpy(), run(views).numpy()
    assert cost.cosine == pytest.approx(float((whole * rounded).sum(1).mean()), abs=1e-4)
    for vectors, recall in ((rounded, cost.recall), (whole, cost.recall_in_float32)):
        scores = vectors.astype(np.float64) @ vectors.T
        np.fill_diagonal(scores, -2)
        hits = testing.labels[scores.argmax(1)] == testing.labels
        assert recall == pytest.approx(hits.mean(), abs=0.03)  # but for ties
    assert np.abs(whole - rounded).max() > 1e-4  # it is rounded
    unlabelled = Records.create(testing.paths.tolist(), [""] * 48)
    assert in_int8(network, content, unlabelled, unlabelled, 0)[1].recall is None


def test_the_verb_exports_a_checkpoint_that_search_takes(
    cli: Cli, trained: str, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = f"checkpoint={trained}"
    assert cli("export", checkpoint, "out=net.onnx", "num_workers=0") == Path("net.onnx")
    assert "largest difference from PyTorch: " in capsys.readouterr().out
    images = sorted(class_folders.glob("*/0.png"))
    similar(lookalike.load_embedder("net.onnx")(images), lookalike.load_embedder(trained)(images))
    asked = (f"images={images[0]}", f"gallery={class_folders}", "within=all", "num_workers=0")
    cli("search", checkpoint, *asked, "hydra.run.dir=a")
    cli("search", "checkpoint=net.onnx", *asked, "hydra.run.dir=b")
    assert Path("a/matches.csv").read_text() == Path("b/matches.csv").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=onx"], "format=onx is none of onnx, torch_export. Did you mean onnx"),
        (["precision=int4"], "precision=int4 is none of"),
        (["precision=int8", "format=torch_export"], "precision=int8 needs format=onnx"),
        (["out=a.pt"], "the name of such a file ends in .onnx"),
        (["checkpoint=null"], "give what embeds the images"),
        (["checkpoint=none.onnx", "images=."], "no exported network at"),
    ],
)
def test_what_does_not_fit_is_said(
    overrides: list[str], message: str, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli("export", "checkpoint=run.ckpt", *overrides)
    assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        pytest.param("vit_small_patch14_reg4_dinov2", marks=pytest.mark.slow),
    ],
)
# the position embedding has 14 or 37 a side
@pytest.mark.parametrize("patches", [pytest.param(4, marks=pytest.mark.slow), 19])
def test_a_transformer_at_another_size_than_it_was_trained_with(name: str, patches: int) -> None:
    torch.manual_seed(0)
    pixels = patches * int(re.search(r"patch(\d+)", name)[1])  # type: ignore[index]  # it is there
    backbone = timm_backbone(name, None, pixels, [0.5] * 3, [0.5] * 3, "timm")
    network = pretrained_network(backbone, AveragePooling(), name)
    images = torch.randint(0, 256, (3, 3, pixels, pixels), dtype=torch.uint8)
    _, apart = exported(network, "onnx", [images])
    assert apart < 1e-5


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "inception_v3", "timm"])
@torch.inference_mode()
def test_parity_on_real_images(
    name: str, real_data: Path, real_weights: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    file = config_folder() / "backbone" / f"{name}.yaml"
    config = OmegaConf.create({"backbone": OmegaConf.load(file)}).backbone  # it refers to itself so
    vit = {"name": "vit_tiny_patch16_224", "image_size": 224, "mean": [0.5] * 3, "std": [0.5] * 3}
    config.merge_with(vit if name == "timm" else {})
    config.weights = str(real_weights) if name == "mobilenet_v2" else None
    network = pretrained_network(build(config), AveragePooling(), name)
    photos = sorted((real_data / "furniture" / "val").glob("*/*"))[::40]
    batches = [network.view([decode(photo) for photo in part]) for part in (photos, photos[:1])]
    content, apart = exported(network, "onnx", batches)
    assert apart < 1e-4
    write_exported(tmp_path / "net.onnx", content)
    vectors = lookalike.load_embedder(tmp_path / "net.onnx")(photos)
    np.testing.assert_allclose(vectors, network.embedder(batches[0]), rtol=0, atol=1e-4)
