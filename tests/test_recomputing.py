"""Gradient checkpointing: the same gradients and statistics, with less kept in memory."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lookalike.models.backbones import Backbone, torchvision_backbone
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze
from lookalike.models.heads import Linear
from lookalike.models.pooling import AveragePooling
from lookalike.models.timm_backbone import timm_backbone

MEAN = STD = (0.5, 0.5, 0.5)


def made(name: str, checkpoint_gradients: bool) -> Embedder:
    torch.manual_seed(0)
    if name == "with dropout":
        layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5))
                  for _ in range(3)]  # fmt: skip
        backbone = Backbone(nn.Sequential(*layers), 32, MEAN, STD)
    elif name.startswith("test_"):
        backbone = timm_backbone(name, None, 32, MEAN, STD, "timm")
    else:
        backbone = torchvision_backbone(name, None, 32, MEAN, STD, None)
    return Embedder(
        backbone, AveragePooling(), lambda width: Linear(width, 4), Freeze(),
        checkpoint_gradients=checkpoint_gradients,
    ).train()  # fmt: skip


def step(model: Embedder) -> tuple[Tensor, int]:
    """The embeddings after a backward pass, and how many bytes the forward pass kept for it."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        embeddings = model(images)
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    size = sum(size for place, size in kept.items() if place not in own)
    (embeddings @ torch.randn(4)).square().sum().backward()
    return embeddings.detach(), size


@pytest.mark.parametrize(
    ("name", "share"),
    [("test_vit", 0.3), ("test_efficientnet", 0.5), ("test_resnet", 0.5), ("mobilenet_v2", 0.5),
     ("with dropout", 0.99)],
)  # fmt: skip
def test_gradients_and_statistics_are_the_same(name: str, share: float) -> None:
    plain, saving = made(name, False), made(name, True)
    assert not plain.recomputed
    assert len(saving.recomputed) > 2
    (expected, size), (found, less) = step(plain), step(saving)
    assert torch.equal(found, expected)
    assert less < share * size
    for (key, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert one.grad is not None, key
        assert torch.equal(one.grad, other.grad), key  # type: ignore[arg-type]
    for key, value in plain.state_dict().items():
        assert torch.equal(value, saving.state_dict()[key]), key
    if name != "test_vit":
        counted = [v for k, v in saving.state_dict().items() if k.endswith("num_batches_tracked")]
        assert counted
        assert all(int(each) == 1 for each in counted)


def test_the_network_itself_stays_as_it_was() -> None:
    """Nothing is left in it that a copy, an export or a checkpoint would carry along."""
    model = made("test_resnet", True)
    step(model)
    assert not any("forward" in vars(module) for module in model.modules())
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.inference_mode():
        expected = model.eval()(images)
        torch.testing.assert_close(model.for_measuring()(images), expected)
    network: Any = model.backbone.network.network

    def fail(*_: Any) -> None:
        raise KeyError

    hook = network.layer2.register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        model.train()(images)
    hook.remove()
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_frozen_block_needs_no_second_pass() -> None:
    torch.manual_seed(0)
    backbone = timm_backbone("test_vit", None, 32, MEAN, STD, "timm")
    model = Embedder(
        backbone, AveragePooling(), lambda width: Linear(width, 4), Freeze(5, by="blocks"),
        checkpoint_gradients=True,
    ).train()  # fmt: skip
    network: Any = backbone.network.network
    calls: list[int] = []
    for number, block in enumerate(network.blocks):
        block.norm1.register_forward_hook(lambda *_, number=number: calls.append(number))
    step(model)
    assert sorted(calls) == [0, 1, 2, 3, 4, 4, 5, 5]
