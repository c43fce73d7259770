"""LoRA: what learns, and that merged weights are the same network without any addition."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookalike.compatibility import torchvision_module
from lookalike.errors import InputError
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.share import share_as_folder
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze, Thaw
from lookalike.models.heads import Linear
from lookalike.models.lora import Lora, NoLora, merge, merged_state
from lookalike.models.pooling import AveragePooling
from lookalike.models.timm_backbone import timm_backbone
from lookalike.training.experiment import Experiment

MEAN = STD = (0.5, 0.5, 0.5)


def embedder(name: str, lora: Lora | NoLora, freeze: Freeze = Freeze(), **options: Any) -> Embedder:  # noqa: B008
    torch.manual_seed(0)
    backbone = timm_backbone(name, None, 32, MEAN, STD, "timm")
    for key, parameter in backbone.named_parameters():
        if key.endswith("gamma"):  # ConvNeXt starts with 1e-6, which hides its blocks
            nn.init.ones_(parameter)
    return Embedder(
        backbone, AveragePooling(), lambda width: Linear(width, 4), freeze, lora=lora, **options
    )


@torch.no_grad()
def trained(model: Embedder) -> Embedder:
    """As if every addition had learned."""
    for parameter in model.backbone.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.1)
    return model


def pictures() -> Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_convnext"])
def test_merged_equals_unmerged(name: str) -> None:
    plain = embedder(name, NoLora()).eval()
    model = embedder(name, Lora(rank=3)).eval()
    images = pictures()
    with torch.inference_mode():
        torch.testing.assert_close(model(images), plain(images), rtol=0, atol=1e-6)  # at the start
        unmerged = trained(model)(images)
        assert not torch.allclose(unmerged, plain(images), atol=1e-2)
        torch.testing.assert_close(model.for_measuring()(images), unmerged, rtol=0, atol=1e-6)
        state = merged_state(model.state_dict())
        assert state.keys() == plain.state_dict().keys()
        plain.load_state_dict(state)
        torch.testing.assert_close(plain(images), unmerged, rtol=0, atol=1e-6)
        model.merge()
    merged = model.state_dict()
    assert all(torch.equal(merged[key], value) for key, value in state.items())
    assert [*map(type, model.modules())] == [*map(type, plain.modules())]


def test_only_the_additions_and_the_head_learn() -> None:
    model = embedder("test_vit", Lora(rank=2, targets="attention"))
    network: Any = model.backbone.network.network
    learning = {name for name, each in network.named_parameters() if each.requires_grad}
    expected = {
        f"blocks.{block}.attn.{layer}.parametrizations.weight.0.{part}"
        for block in range(6)
        for layer in ("qkv", "proj")
        for part in ("up", "down")
    }
    assert learning == expected
    assert all(parameter.requires_grad for parameter in model.head.parameters())
    qkv = network.blocks[0].attn.qkv.parametrizations.weight[0]
    assert (qkv.up.shape, qkv.down.shape) == ((192, 2), (2, 64))
    model(pictures()).sum().backward()
    assert {name for name, each in network.named_parameters() if each.grad is not None} == expected


def test_the_sum_by_hand() -> None:
    """Of a linear layer, a 1 x 1 convolution and torch's attention, whose weight no layer calls."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Linear(9, 4))
    whole = nn.ModuleDict({"body": network, "attention": attention})
    values = torch.randn(2, 3, 3, 3)

    def forward() -> Tensor:
        tokens = network(values)
        return attention(tokens, tokens, tokens, need_weights=False)[0]

    weights = {"conv": network[0], "linear": network[2], "proj": attention.out_proj}
    kept = {name: layer.weight.detach().clone() for name, layer in weights.items()}
    kept["in"] = attention.in_proj_weight.detach().clone()
    Lora(rank=2, alpha=6.0, targets="linear").add_to(whole)
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    found = forward()
    merge(whole)
    torch.testing.assert_close(forward(), found)
    assert not torch.equal(attention.in_proj_weight, kept["in"])
    Lora(rank=2, alpha=6.0, targets=["0"]).add_to(whole)
    conv: Any = network[0]
    step = conv.parametrizations.weight[0]
    with torch.no_grad():
        step.up.normal_()
        by_hand = torch.zeros(4, 3)
        for row in range(4):
            for column in range(3):
                products = (step.up[row, each] * step.down[each, column] for each in (0, 1))
                by_hand[row, column] = 3 * sum(products)
        expected = conv.parametrizations.weight.original + by_hand[:, :, None, None]
        torch.testing.assert_close(conv.weight, expected)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_attention_of_torchvision(name: str) -> None:
    """It reads weights without calling their layers, so wrapped layers would have no effect."""
    with torch.device("meta"):
        network: nn.Module = torchvision_module("models").get_model(name, weights=None)
        Lora(targets="attention").add_to(network)
    found = [name.split(".parametrizations.")[0] for name, each in network.named_parameters()
             if each.requires_grad]  # fmt: skip
    assert len(set(found)) == 2 * 12
    assert all("attn" in each or "attention" in each for each in found)


@pytest.mark.parametrize(
    ("name", "targets", "message"),
    [
        ("test_efficientnet", "attention", r"no such layers. Set it to linear or .*conv_pw"),
        ("test_vit", ["query"], r"no such layers.*fc1, fc2, proj, qkv"),
    ],
)
def test_targets_that_a_network_lacks(name: str, targets: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder(name, Lora(targets=targets))
    with pytest.raises(InputError, match=r"lora.targets=qkv: .*\[qkv\]"):
        Lora(targets="qkv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"freeze=thaw lets weights learn"):
        embedder("test_vit", Lora(), Freeze(None, False, Thaw(1, 0)))


def test_additions_in_frozen_blocks_do_not_learn() -> None:
    model = embedder("test_vit", Lora(targets=["fc1"]), Freeze(below=5, by="blocks"))
    learning = {name.split(".")[3] for name, each in model.backbone.named_parameters()
                if each.requires_grad}  # fmt: skip
    assert learning == {"4", "5"}


def test_gradient_checkpointing_keeps_the_gradients_of_additions() -> None:
    images, found = pictures(), []
    for saving in (False, True):
        model = trained(embedder("test_vit", Lora(), checkpoint_gradients=saving)).train()
        torch.manual_seed(0)
        model(images).square().sum().backward()
        found.append([each.grad for each in model.parameters() if each.grad is not None])
    assert len(found[0]) > 20
    assert all(torch.equal(*each) for each in zip(*found, strict=True))


@pytest.fixture
def make(compose: Any, tiny: tuple[str, ...], tmp_path: Path) -> Any:
    """make("folder", overrides) -> a ViT of timm with LoRA, on tiny pictures."""

    def experiment(folder: str, *overrides: str) -> Experiment:
        others = [each for each in tiny if each != "backbone=tiny"]
        config = compose(
            "train", *others, "backbone=timm", "backbone.name=test_vit", "backbone.image_size=32",
            "lora=linear", "lora.rank=2", "learning_rate.backbone=0.01",
            "data.sampler.batches_per_epoch=2", "trainer.max_epochs=2", *overrides,
        )  # fmt: skip
        return Experiment(config, tmp_path / folder)

    return experiment


@pytest.mark.slow
def test_a_run_leaves_plain_weights_and_can_be_resumed(make: Any, tmp_path: Path) -> None:
    whole = make("whole")
    best = whole.fit()
    scores = whole.test(best)
    assert not any("parametrizations" in name for name in best.state)
    plain = timm_backbone("test_vit", None, 32, MEAN, STD, "timm")
    names = {f"embedder.backbone.{name}" for name in plain.state_dict()}
    assert names == {name for name in best.state if name.startswith("embedder.backbone.")}

    half = make("half", "trainer.max_epochs=1", "learner.planned_epochs=2")
    half.fit()
    last = half.folder / "checkpoints" / "last.ckpt"
    assert any("parametrizations" in name for name in read_checkpoint(last).state)
    again = make("again")
    again.fit(str(last))
    for name in ("last", "best"):
        one, other = (
            read_checkpoint(each.folder / "checkpoints" / f"{name}.ckpt").state
            for each in (whole, again)
        )
        assert one.keys() == other.keys()
        if name == "last":
            assert all(torch.equal(one[key], other[key]) for key in one)

    images = pictures()
    unmerged = read_checkpoint(whole.folder / "checkpoints" / "last.ckpt")
    shared = share_as_folder(unmerged, tmp_path / "shared")
    reread = read_checkpoint(shared)
    assert "lora" not in reread.config["embedder"]
    assert reread.fingerprint() == unmerged.fingerprint()
    assert not any("parametrizations" in name for name in reread.state)
    with torch.inference_mode():
        expected = unmerged.embedder()(images)
        torch.testing.assert_close(reread.embedder()(images), expected, rtol=0, atol=1e-6)
        if best.epochs == unmerged.epochs:
            torch.testing.assert_close(best.embedder()(images), expected, rtol=0, atol=1e-6)
        other = whole.learner.embedder(images)
        torch.testing.assert_close(best.embedder()(images), other, rtol=0, atol=1e-5)
    assert scores


def test_a_resumable_best_checkpoint_holds_the_additions_and_measures_as_merged(make: Any) -> None:
    run = make("both", "checkpoint.optimizer=both", "trainer.max_epochs=1")
    best = run.fit()
    assert any("parametrizations" in name for name in best.state)
    images = pictures()
    with torch.inference_mode():
        expected = run.learner.embedder.eval()(images)
        torch.testing.assert_close(best.embedder()(images), expected, rtol=0, atol=1e-5)
    assert run.test(best)
    run.loss_of(best)


def test_batch_norm_keeps_its_statistics_by_default(compose: Any) -> None:
    config = compose("train", "lora=linear", "data=flowers")
    assert (config.freeze.batch_norm, config.freeze.below) == (True, 0)
    config = compose("train", "lora=attention", "freeze=blocks", "data=flowers")
    assert (config.freeze.by, config.lora.targets) == ("blocks", "attention")
