"""Engines that embed: they agree with PyTorch, are chosen by their speed, and say what they do."""

import csv
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import lookalike
from lookalike.config import build
from lookalike.errors import InputError
from lookalike.models import embedding_engine, engines, racing
from lookalike.models.backbones import Backbone
from lookalike.models.embedder import Embedder
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.models.engines import TOLERANCE, Exported, difference, is_installed
from lookalike.models.freezing import Freeze
from lookalike.models.heads import Identity, Linear
from lookalike.models.pooling import AveragePooling, GeMPooling
from lookalike.models.timm_backbone import _Map
from lookalike.training.identity import fingerprint, start_fingerprint

Compose = Callable[..., DictConfig]
Cli = Callable[..., Any]

SHORT = ("evaluation.before_training=false", "hydra.run.dir=run")
CHECKPOINT = "checkpoint=run/checkpoints/best.ckpt"
CONFIGURED = "Embedding with {} in float32, as configured."

needs = {
    name: pytest.mark.skipif(
        not is_installed(name), reason=f'{name} is not installed: pip install "lookalike[{name}]"'
    )
    for name in engines.PACKAGES
}
OTHERS = [pytest.param(name, marks=needs[name]) for name in engines.PACKAGES]
SECOND_SLOW = [OTHERS[0], pytest.param("openvino", marks=[needs["openvino"], pytest.mark.slow])]


class Residual(nn.Module):
    """Convolutions of several kinds with batch norm, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.SiLU())

    def forward(self, images: Tensor) -> Tensor:
        narrow = self.narrow(images)
        return narrow + self.wide(narrow)


class Tokens(nn.Module):
    """Attention between patches: (B, 3, H, W) -> tokens (B, T, 16), as a timm transformer's."""

    num_prefix_tokens = 0
    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]


class ChannelsAtTheEnd(nn.Module):
    """A feature map (B, h, w, 16), as Swin's."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images).permute(0, 2, 3, 1).relu()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "tokens": lambda: _Map(Tokens()),
    "channels at the end": lambda: _Map(ChannelsAtTheEnd()),
}


def embedder(
    name: str = "residual", pooling: nn.Module | None = None, head: Any = None
) -> Embedder:
    """A tiny network with random weights and batch statistics, ready for measuring."""
    torch.manual_seed(0)
    backbone = Backbone(NETWORKS[name](), 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    made = Embedder(
        backbone,
        pooling or AveragePooling(),
        head or (lambda width: Linear(width, 8)),
        Freeze(below=None, batch_norm=False),
    )
    made(pictures(16))  # batch norm learns statistics
    return made.for_measuring()


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """uint8 (*shape, 3, 32, 32)."""
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, 32, 32), dtype=torch.uint8, generator=drawn)


def agrees(compute: Callable[[Tensor], Tensor], expected: Callable[[Tensor], Tensor]) -> None:
    """On batches of many sizes, one of which is the last of a set."""
    for count in (16, 16, 5, 1, 2, 3, 17):
        images = pictures(count, seed=count)
        found = compute(images)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected(images), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_engines_agree_with_pytorch(name: str, engine: Any) -> None:
    network = embedder(name)
    agrees(EmbeddingEngine(engine).faster(network), network)


@pytest.mark.parametrize("engine", OTHERS)
@torch.inference_mode()
def test_every_way_to_use_a_network(engine: Any) -> None:
    """Vectors of any length, before the head, pooled otherwise; several views of an image."""
    network = embedder(pooling=GeMPooling(), head=Identity)
    chosen = EmbeddingEngine(engine)
    agrees(chosen.faster(network), network)
    for method in ("unnormalised", "features"):
        expected = getattr(network, method)(pictures(9))
        found = chosen.faster(network, method)(pictures(9))
        assert difference(found, expected) < TOLERANCE
    views = chosen.faster(network)
    for count in (6, 6, 1, 4):
        np.testing.assert_allclose(
            views(pictures(count, 4)), network(pictures(count, 4)), atol=TOLERANCE
        )
    other_size = pictures(4)[..., :24]  # goes to PyTorch
    compute = chosen.faster(network)
    compute(pictures(4))
    np.testing.assert_array_equal(compute(other_size), network(other_size))


class Unknown(nn.Module):
    """A layer that no exporter knows."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.special.bessel_j0(images)


class Counting(nn.Module):
    """A network with a number of images built in: it was traced with two."""

    def forward(self, images: Tensor) -> Tensor:
        count = int(images.shape[0])  # a constant of the traced graph
        return images.float().mean((2, 3)) * torch.arange(1.0, count + 1)[:, None] / count


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """said() -> the lines that engines logged."""
    caplog.set_level(logging.INFO)
    return lambda: [r.getMessage() for r in caplog.records if "models" in r.name]


@pytest.fixture
def any_engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[Tensor], Tensor]]:
    """Engines by name that a test puts there; all count as installed, and any set is worth while.

    Their vectors are compared with PyTorch's as usual."""
    found: dict[str, Callable[[Tensor], Tensor]] = {}

    def open_(self: Exported, engine: str, precision: str) -> Any:
        return found[engine]

    monkeypatch.setattr(Exported, "_open", open_)
    monkeypatch.setattr(racing, "WORTH", 0.0)
    monkeypatch.setattr(racing, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(racing, "is_installed", lambda name: name in found)
    return found


class Timed(nn.Module):
    """Means of the channels, in so many seconds a batch, times a factor; it counts its batches.

    The seconds are those of a clock that only such networks move.
    """

    clock = 0.0

    def __init__(self, seconds: float, factor: float = 1.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.factor = factor
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += len(images) > 1  # the comparison also runs one image alone
        Timed.clock += self.seconds
        return self.factor * images.float().mean((2, 3))


def embed_batches(compute: Any, batches: int = 9) -> None:
    """With scores as PyTorch's, whoever computes them."""
    compute.expect(batches)
    for seed in range(batches):
        images = pictures(4, seed=seed)
        assert difference(compute(images), images.float().mean((2, 3))) < TOLERANCE


def test_the_fastest_engine_embeds_the_rest(any_engine: Any, said: Any) -> None:
    network, fast, middle = Timed(0.02), Timed(0.001), Timed(0.06)
    any_engine |= {"onnxruntime": fast, "openvino": middle}
    embed_batches(EmbeddingEngine().faster(network))
    # the first batch is PyTorch's, and is compared; then each has one
    assert (network.batches, fast.batches, middle.batches) == (2, 1 + 1 + 5, 1 + 1)
    (line,) = said()
    assert re.fullmatch(
        r"Embedding with onnxruntime: a batch ran at \d+ images/s with onnxruntime, "
        r"\d+ images/s with PyTorch, \d+ images/s with openvino\.",
        line,
    )


def test_pytorch_stays_where_it_is_the_fastest(any_engine: Any, said: Any) -> None:
    network, other = Timed(0.001), Timed(0.03)
    any_engine["openvino"] = other
    embed_batches(EmbeddingEngine().faster(network))
    assert (network.batches, other.batches) == (8, 2)
    assert said()[0].startswith("Embedding with PyTorch: a batch ran at")


@pytest.mark.parametrize("factor", [1 + 2 * TOLERANCE, float("nan"), 0.0])
def test_an_engine_that_differs_is_not_used(any_engine: Any, said: Any, factor: float) -> None:
    network, other, right = Timed(0.01), Timed(0.001, factor), Timed(0.001, 1 + 1e-6)
    any_engine["onnxruntime"] = other
    embed_batches(EmbeddingEngine().faster(network))
    assert (network.batches, other.batches) == (9, 1)
    (line,) = said()
    assert line.startswith("Embedding with PyTorch: onnxruntime differs from PyTorch by")
    any_engine["openvino"] = right
    embed_batches(EmbeddingEngine().faster(network))
    assert (other.batches, right.batches) == (2, 8)


def test_few_images_are_left_to_pytorch_until_they_are_many(
    any_engine: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, other = Timed(0.01), Timed(0.001)
    any_engine["onnxruntime"] = other
    monkeypatch.setattr(racing, "WORTH", 0.1)  # ten batches of PyTorch
    compute = EmbeddingEngine().faster(network)
    for _ in range(3):
        embed_batches(compute, 3)
    assert other.batches == 0
    assert said() == []
    for _ in range(2):  # by now PyTorch has taken as long as an engine is worth
        embed_batches(compute, 3)
    assert other.batches > 1
    assert said()[-1].startswith("Embedding with onnxruntime")
    before = other.batches
    embed_batches(EmbeddingEngine().faster(Timed(0.01)), 12)  # worth while from the start
    assert other.batches == before + 1 + 10
    assert len(said()) == 2


def test_with_nothing_installed_the_line_says_what_to_install(any_engine: Any, said: Any) -> None:
    network = Timed(0.001)
    embed_batches(EmbeddingEngine().faster(network))
    assert network.batches == 9
    (line,) = said()
    assert 'pip install "lookalike[onnxruntime]" or "lookalike[openvino]"' in line


def test_processes_that_measure_together_stay_with_pytorch(
    any_engine: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_engine["onnxruntime"] = other = Timed(0.001)
    monkeypatch.setattr(racing, "world_size", lambda: 2)
    embed_batches(EmbeddingEngine().faster(Timed(0.01)))
    assert other.batches == 0
    assert said() == ["Embedding with PyTorch: several processes must use one engine."]


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("network", [Unknown(), Counting()], ids=lambda n: type(n).__name__)
def test_a_network_that_cannot_be_exported(
    network: nn.Module, engine: Any, said: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(racing, "WORTH", 0.0)
    compute = EmbeddingEngine().faster(network)
    compute.expect(4)
    for _ in range(4):
        torch.testing.assert_close(compute(pictures(5)), network(pictures(5)))
    (line,) = said()
    assert re.match(rf"Embedding with PyTorch: .*{engine} (can't run it|differs)", line)
    with pytest.raises(InputError, match=r"Set embedding\.engine=torch"):
        EmbeddingEngine(engine).faster(network)(pictures(5))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "onnx"}, r"engine=onnx is not known.*Did you mean onnxruntime"),
        ({"precision": "bf16"}, r"precision=bf16 is not known; there are float32, bfloat16"),
        ({"precision": "bfloat16"}, r"engine=auto computes in float32 only.*openvino or torch"),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, "computes in float32 only"),
        ({"engine": "openvino"}, r'not installed: pip install "lookalike\[openvino\]"'),
    ],
)
def test_what_an_engine_cannot_be(
    given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_engine, "is_installed", lambda name: name != "openvino")
    with pytest.raises(InputError, match=message):
        EmbeddingEngine(**given)


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=needs["openvino"])])
@torch.inference_mode()
def test_bfloat16_is_near(engine: Any) -> None:
    network = embedder()
    found = EmbeddingEngine(engine, "bfloat16").faster(network)(pictures(12)).float()
    assert difference(found, network(pictures(12))) < 0.05


class OnGPU(Timed):
    """A network elsewhere, which has done its work already."""

    def forward(self, images: Any) -> Tensor:
        return torch.ones(len(images), 3)


@dataclass
class Elsewhere:
    """As much of a batch on a GPU as an engine looks at."""

    device = torch.device("cuda", 1)

    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize("engine", OTHERS)
def test_a_gpu_is_for_pytorch(engine: Any, said: Any) -> None:
    images: Any = Elsewhere()
    EmbeddingEngine().faster(OnGPU(0.0))(images)
    assert said() == ["Embedding with PyTorch: it computes on cuda:1."]
    with pytest.raises(InputError, match="runs on the CPU, not on cuda:1"):
        EmbeddingEngine(engine).faster(OnGPU(0.0))(images)


def test_differences_are_shares_of_a_vector_s_length() -> None:
    expected = torch.tensor([[3.0, 4.0], [0.0, 0.0], [30.0, 40.0]])
    apart = torch.tensor([[0.0, 0.1], [0.0, 0.0], [3.0, 0.0]])
    assert difference(expected + apart, expected) == pytest.approx(3 / 50)
    assert difference(expected, expected) == 0
    assert difference(expected[:2], expected) == float("inf")


@pytest.mark.parametrize("engine", SECOND_SLOW)
def test_scores_are_those_of_pytorch(cli: Cli, tiny: tuple[str, ...], engine: str) -> None:
    cli("train", *tiny, "transform=four_views", *SHORT)
    scores = []
    for name in ("torch", engine):
        cli("evaluate", CHECKPOINT, f"embedding.engine={name}", f"hydra.run.dir={name}")
        written = json.loads(Path(name, "metrics.json").read_text())
        assert written["embedding"]["engine"] == name
        scores.append({k: v for k, v in written.items() if k.startswith("test/")})
    assert scores[0] == scores[1]
    assert len(scores[0]) > 5
    assert CONFIGURED.format(engine) in Path(engine, "evaluate.log").read_text()


@pytest.mark.parametrize("engine", SECOND_SLOW)
def test_a_search_and_python_find_the_same(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, engine: str
) -> None:
    cli("train", *tiny, *SHORT)
    given = (f"images={class_folders / 'class03'}", f"gallery={class_folders}", "num_workers=0")
    found = []
    for name in ("torch", engine):
        cli("search", CHECKPOINT, *given, f"embedding.engine={name}", f"hydra.run.dir={name}")
        rows = csv.DictReader(Path(name, "matches.csv").read_text().splitlines())
        found.append([(row["query"], row["match"]) for row in rows])
    assert found[0] == found[1]
    assert len(found[0]) >= 6
    assert Path(engine, "search.log").read_text().count(CONFIGURED.format(engine)) == 1

    file = "run/checkpoints/best.ckpt"
    files = sorted(class_folders.glob("*/*.png"))[:9]
    vectors = [lookalike.load_embedder(file, engine=n)(files, 4) for n in ("torch", engine, "auto")]
    np.testing.assert_allclose(vectors[1], vectors[0], atol=TOLERANCE)
    np.testing.assert_array_equal(vectors[2], vectors[0])


@pytest.mark.parametrize("engine", SECOND_SLOW)
def test_a_run_is_measured_by_the_engine_of_its_choice(
    cli: Cli, tiny: tuple[str, ...], engine: str
) -> None:
    scores = []
    for name in ("torch", engine):
        cli("train", *tiny, f"embedding.engine={name}", f"hydra.run.dir={name}")
        written = json.loads(Path(name, "metrics.json").read_text())
        scores.append({k: v for k, v in written.items() if k.startswith(("test/", "val/"))})
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    # before training and after it, on the validation images and on the test images
    assert Path(engine, "train.log").read_text().count(CONFIGURED.format(engine)) == 4


def test_the_engine_does_not_make_another_run(compose: Compose, tiny: tuple[str, ...]) -> None:
    plain, other = compose("train", *tiny), compose("train", *tiny, "embedding.engine=auto")
    assert fingerprint(plain) == fingerprint(other)
    assert start_fingerprint(plain) == start_fingerprint(other)
    assert "embedding" not in OmegaConf.to_container(plain.learner, resolve=False) or (
        plain.learner.embedding == plain.embedding
    )


@pytest.mark.parametrize("verb", ["evaluate", "search"])
def test_a_missing_engine_is_explained_before_any_work(
    verb: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(embedding_engine, "is_installed", lambda name: False)
    with pytest.raises(SystemExit):
        cli(verb, "checkpoint=none_yet.ckpt", "embedding.engine=openvino")
    assert 'pip install "lookalike[openvino]"' in capsys.readouterr().err


@needs["openvino"]
def test_openvino_reports_nothing() -> None:
    code = (
        "import sys\n"
        "from lookalike.compatibility import openvino_module\n"
        "assert openvino_module().Core().available_devices\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "from openvino.tools.ovc import telemetry\n"
        "assert type(telemetry).__module__ == 'openvino.tools.ovc.telemetry_stub'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize(
    "choice",
    [
        ["backbone=mobilenet_v2", "backbone.image_size=64", "head=bottleneck"],
        ["backbone=resnet18", "backbone.image_size=64", "pooling=gem", "head=mlp"],
        ["backbone=googlenet", "backbone.image_size=96", "head=identity"],
        ["backbone=siamese", "backbone.image_size=48"],
        ["backbone=timm", "backbone.name=tf_efficientnet_lite0", "backbone.image_size=64"],
        ["backbone=timm", "backbone.name=vit_tiny_patch16_224", "backbone.image_size=224"],
        ["backbone=timm", "backbone.name=swin_tiny_patch4_window7_224",
         "backbone.image_size=224"],
        ["backbone=timm", "backbone.name=convnext_atto", "backbone.image_size=64"],
    ],
    ids=lambda choice: choice[1 if choice[0] == "backbone=timm" else 0],
)  # fmt: skip
@torch.inference_mode()
def test_real_networks_agree(choice: list[str], engine: Any, compose: Compose) -> None:
    torch.manual_seed(0)
    config = compose("train", *choice, "backbone.weights=null")
    network = build(config.embedder).for_measuring()
    size = config.backbone.image_size
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    compute = EmbeddingEngine(engine).faster(network)
    for count in (4, 1):
        np.testing.assert_allclose(compute(images[:count]), network(images[:count]), atol=TOLERANCE)


@pytest.mark.slow
def test_signals_arrive_after_openvino_has_run_a_network() -> None:
    """Its CPU plugin lends signal handlers a stack, and must not take that away."""
    pytest.importorskip("openvino", reason='pip install "lookalike[openvino]"')
    code = """
import gc, signal, subprocess, torch
from torch import nn
from lookalike.models.exporting import to_onnx
from lookalike.models.runtimes import open_openvino
seen = []
signal.signal(signal.SIGCHLD, lambda *given: seen.append(given))
network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
network.features = lambda images: network(images.float())
images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
for _ in range(2):
    assert open_openvino(to_onnx(network, images, "features"), 1)(images).shape == (2, 2)
    gc.collect()
    subprocess.run(["true"], check=True)
assert seen
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
