"""Blocks of networks, counted from the images on, and freezing by them."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from lookalike.compatibility import torchvision_module
from lookalike.errors import InputError
from lookalike.models.backbones import Backbone, torchvision_backbone
from lookalike.models.blocks import block_modules, block_names, block_numbers
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze, Thaw
from lookalike.models.heads import Identity
from lookalike.models.pooling import AveragePooling
from lookalike.models.timm_backbone import timm_backbone

MEAN = STD = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("resnet18", 9, {0: "conv1, bn1", 1: "layer1.0", 3: "layer2.0", 8: "layer4.1"}),
        ("mobilenet_v2", 19, {0: "features.0", 17: "features.17", 18: "features.18"}),
        ("vgg11_bn", 8, {0: "features.0, features.1", 7: "features.25, features.26"}),
        (
            "vit_b_16",
            13,
            {
                0: "class_token, conv_proj, encoder.pos_embedding",
                1: "encoder.layers.encoder_layer_0",
                12: "encoder.layers.encoder_layer_11, encoder.ln",
            },
        ),
        ("swin_t", 16, {0: "features.0", 3: "features.2", 15: "features.7.1, norm"}),
    ],
)
def test_the_blocks_of_torchvision(name: str, count: int, some: dict[int, str]) -> None:
    """Without their classifiers, which are no part of a backbone."""
    with torch.device("meta"):
        network = torchvision_module("models").get_model(name, weights=None)
    for classifier in ("classifier", "fc", "heads", "head"):
        if hasattr(network, classifier):
            setattr(network, classifier, nn.Identity())
    names = block_names(network)
    assert len(names) == count
    assert {number: names[number] for number in some} == some
    numbers = block_numbers(network)
    assert numbers.keys() == dict(network.named_parameters()).keys()
    assert list(dict.fromkeys(sorted(numbers.values()))) == list(range(count))


@pytest.mark.parametrize(
    ("name", "count"),
    [("test_vit", 7), ("test_convnext", 11), ("swin_tiny_patch4_window7_224", 13)],
)
def test_the_blocks_of_timm_are_its_own(name: str, count: int) -> None:
    """Inside of whatever wraps the network."""
    with torch.device("meta"):
        network: Any = timm.create_model(name, num_classes=0)
    found = block_numbers(nn.ModuleDict({"body": nn.ModuleDict({"net": network})}))
    theirs = timm.models.group_parameters(network, network.group_matcher(coarse=False))
    assert len(theirs) == count
    expected = {f"body.net.{name}": block for block, names in theirs.items() for name in names}
    assert found == expected
    wrapped = nn.ModuleDict({"net": network})
    modules = block_modules(wrapped)
    held = [each for part in modules for each in wrapped.get_submodule(part).parameters()]
    assert len(held) == len({id(each) for each in held})  # no module lies in another
    blocks = {found[f"body.{name}"] for name, each in wrapped.named_parameters()
              if any(each is other for other in held)}  # fmt: skip
    assert blocks >= set(range(1, count - 1))  # the last may be a single norm


def vit() -> Backbone:
    return timm_backbone("test_vit", None, 32, MEAN, STD, "timm")


def embedder(backbone: Backbone, freeze: Freeze) -> Embedder:
    return Embedder(backbone, AveragePooling(), Identity, freeze)


def test_the_first_blocks_of_a_transformer_are_frozen() -> None:
    backbone = vit()
    network: Any = backbone.network.network
    model = embedder(backbone, Freeze(below=4, by="blocks")).train()
    learning = {name for name, each in network.named_parameters() if each.requires_grad}
    assert learning == {
        name
        for name, _ in network.named_parameters()
        if name.startswith(("blocks.3.", "blocks.4.", "blocks.5.", "norm.", "fc_norm."))
    }
    assert not network.cls_token.requires_grad
    assert [block.attn.attn_drop.training for block in network.blocks] == [False] * 3 + [True] * 3
    model.eval().train()
    assert not network.blocks[2].mlp.drop1.training
    said = model.freeze.description(backbone)
    assert "4 of 7 blocks (" in said
    assert "to blocks.2)" in said
    frozen = sum(each.numel() for each in network.parameters() if not each.requires_grad)
    assert f"{frozen:,} of {sum(each.numel() for each in network.parameters()):,}" in said


def test_blocks_thaw() -> None:
    backbone = vit()
    network: Any = backbone.network.network
    model = embedder(backbone, Freeze(None, True, Thaw(epoch=1, from_layer=6), by="blocks"))
    waiting = {id(each) for each in model.freeze.thawing(backbone)}
    last = [*network.blocks[5].parameters(), *network.norm.parameters()]
    assert waiting >= {id(each) for each in last}
    assert not waiting & {id(each) for each in network.blocks[4].parameters()}
    assert "from blocks.5" in model.freeze.description(backbone)
    model.train().thaw(1)
    assert {id(each) for each in backbone.parameters() if each.requires_grad} == waiting
    assert network.blocks[5].norm1.training
    assert not network.blocks[4].norm1.training


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (Freeze(below=8, by="blocks"), r"freeze.below=8: .* has 7 blocks. Set it to 0...7"),
        (Freeze(below=-1, by="blocks"), r"freeze.below=-1: this backbone has 7 blocks"),
        (Freeze(below=1000), r"this backbone has \d+ layers"),
        (Freeze(None, False, Thaw(1, 7), "blocks"), r"of the 7 blocks .* 7 are frozen"),
    ],
)  # fmt: skip
def test_a_depth_that_a_network_does_not_have(freeze: Freeze, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder(vit(), freeze)


def test_batch_norm_of_frozen_blocks_keeps_its_statistics() -> None:
    """Residual blocks of torchvision; the stem's batch norm belongs to its convolution."""
    backbone = torchvision_backbone("resnet18", None, 32, MEAN, STD, "layer4")
    model = embedder(backbone, Freeze(below=3, by="blocks")).train()
    modes = {name: each.training for name, each in backbone.network.named_modules()
             if isinstance(each, nn.BatchNorm2d)}  # fmt: skip
    assert len(modes) == 20
    for name, learns in modes.items():
        assert learns == name.startswith(("layer2", "layer3", "layer4")), name
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    changed = {
        name for name, value in backbone.state_dict().items() if not value.equal(before[name])
    }
    assert {name.split(".")[1] for name in changed} == {"layer2", "layer3", "layer4"}
