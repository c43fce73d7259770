"""Networks of timm: their features are timm's own, at any size, seen as they were trained."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from lookalike.errors import InputError
from lookalike.models.backbones import Backbone
from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze, Thaw, layers, parameters_by_layer
from lookalike.models.heads import Identity
from lookalike.models.pooling import GeMPooling
from lookalike.models.timm_backbone import timm_backbone

MEAN = STD = (0.5, 0.5, 0.5)
NETWORKS = (
    ("test_vit", 160), ("test_convnext", 160), ("swin_s3_tiny_224", 224), ("test_resnet", 160),
    ("test_efficientnet", 160), ("mobilenetv3_small_050", 64), ("beit_base_patch16_224", 224),
    ("vit_base_patch16_siglip_224", 224),
)  # fmt: skip
HEAVY = ("beit_base_patch16_224", "vit_base_patch16_siglip_224", "swin_s3_tiny_224")


def made(name: str, pool: str, size: int, weights: str | None = None) -> Backbone:
    return timm_backbone(name, weights, size, MEAN, STD, pool).eval()  # type: ignore[arg-type]


def marked(name: str, *others: Any) -> Any:
    return pytest.param(name, *others, marks=[pytest.mark.slow] if name in HEAVY else [])


@torch.no_grad()
def scrambled(name: str, **options: Any) -> Any:
    """A network of timm with its classifier; no parameter is left at 0 or 1, where it hides."""
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


@pytest.mark.parametrize(("name", "size"), [marked(*each) for each in NETWORKS])
def test_its_own_features_are_exactly_those_before_the_classifier(
    name: str, size: int, tmp_path: Path
) -> None:
    """From a file of the whole network, the trained norm beside the classifier is loaded too."""
    theirs = scrambled(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = made(name, "timm", size, str(tmp_path / "weights.pth"))
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        assert torch.equal(ours(images), expected)
    assert ours.shape == expected.shape[1:]


@pytest.mark.slow
def test_which_token(tmp_path: Path) -> None:
    """Class token first, four registers, then the patches: by hand."""
    name = "vit_little_patch16_reg4_gap_256"
    with pytest.raises(InputError, match=r"lacks a class token.*backbone.pool=timm"):
        made(name, "cls", 256)
    name, size = "vit_small_patch14_reg4_dinov2", 28
    theirs = scrambled(name, dynamic_img_size=True, num_classes=0)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        tokens = theirs.forward_features(images)  # (2, 1 + 4 + 2 x 2, 384)
        patches = (tokens[:, 5] + tokens[:, 6] + tokens[:, 7] + tokens[:, 8]) / 4
        wanted = {"cls": tokens[:, 0], "mean": patches}
        wanted["cls_mean"] = torch.cat([tokens[:, 0], patches], 1)
        for pool, expected in wanted.items():
            found = made(name, pool, size, str(tmp_path / "weights.pth"))(images)
            torch.testing.assert_close(found, expected)
        backbone = made(name, "map", size, str(tmp_path / "weights.pth"))
        embedder = Embedder(backbone, GeMPooling(3.0), lambda width: Identity(width), Freeze())
        normalised = (torch.full((1, 3, size, size), 100) / 255 - 0.5) / 0.5
        raised = theirs.forward_features(normalised)[0, 5:].double().clamp(min=1e-6) ** 3
        found = embedder.eval().features(torch.full((1, 3, size, size), 100, dtype=torch.uint8))
        torch.testing.assert_close(
            found[0], (raised.mean(0) ** (1 / 3)).float(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_a_trained_attention_pool() -> None:
    """SigLIP's: the mean of its patches is another feature than the one that it was trained for."""
    name = "vit_base_patch16_siglip_224"
    own, attention, patches = (made(name, pool, 224) for pool in ("timm", "attention", "map"))
    assert (own.shape, attention.shape, patches.shape) == ((768,), (768,), (768, 196, 1))
    attention.load_state_dict(own.state_dict())
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(attention(images), own(images))
    with pytest.raises(InputError, match="lacks a class token"):
        made(name, "cls_mean", 224)


@pytest.mark.parametrize(
    ("name", "pool", "message"),
    [
        ("test_resnet", "mean", "test_resnet lacks tokens"),
        ("test_vit", "attention", "lacks a trained attention pool"),
        ("test_vit", "gem", r"backbone.pool=gem: it is one of timm, cls, mean"),
        ("resnet999", "timm", "timm has no model 'resnet999'"),
    ],
)
def test_features_that_a_network_lacks(name: str, pool: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(name, pool, 160)


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_vit", 64), ("test_vit", 224), ("test_convnext", 96), marked("swin_s3_tiny_224", 96)],
)
def test_another_image_size(name: str, size: int) -> None:
    assert len(made(name, "timm", size).shape) == 1


def test_a_size_that_patches_do_not_divide() -> None:
    with pytest.raises(InputError, match=r"takes no images of 100 pixels .* example to 160"):
        made("test_vit", "timm", 100)


@pytest.mark.parametrize(
    ("name", "width", "places"),
    [("vit_tiny_patch16_224", 192, (196, 1)), ("swin_s3_tiny_224", 768, (7, 7)),
     ("convnext_atto", 320, (7, 7)), ("mobilenetv3_small_050", 1024, (7, 7))],
)  # fmt: skip
def test_maps_have_their_channels_first(name: str, width: int, places: tuple[int, int]) -> None:
    backbone = made(name, "map", 224)
    assert backbone.shape == (width, *places)
    if name.startswith("vit"):  # patches only: neither class nor register tokens
        network: Any = backbone.network.network
        images = torch.rand(1, 3, 224, 224)
        with torch.inference_mode():
            patches = network(images)[:, 1:]
            torch.testing.assert_close(backbone(images)[0, :, :, 0], patches[0].T)


def test_a_pooling_that_would_be_ignored_is_refused() -> None:
    with pytest.raises(InputError, match=r"GeMPooling .* backbone.pool=map"):
        Embedder(
            made("test_vit", "cls", 160), GeMPooling(), lambda width: Identity(width), Freeze()
        )


TRANSFORMERS = (
    "vit_tiny_patch16_224",
    "swin_s3_tiny_224",
    "convnext_atto",
    "deit3_small_patch16_224",
)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_frozen_transformer_is_frozen_whole(name: str) -> None:
    """Class tokens, position embeddings and layer scales belong to modules that are no layers."""
    backbone = made(name, "timm", 224)
    held = {id(p) for parameters in parameters_by_layer(backbone) for p in parameters}
    assert held == {id(parameter) for parameter in backbone.parameters()}
    Freeze(below=None).stop_gradients(backbone)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_part_of_a_transformer_is_frozen_and_thaws() -> None:
    backbone = made("vit_tiny_patch16_224", "timm", 224)
    vit: Any = backbone.network.network
    freeze = Freeze(below=len(layers(vit.patch_embed)) + 30, thaw=Thaw(1, 20))
    freeze.stop_gradients(backbone)
    assert not vit.cls_token.requires_grad
    assert not vit.pos_embed.requires_grad
    assert vit.blocks[-1].attn.qkv.weight.requires_grad
    thawing = {id(parameter) for parameter in freeze.thawing(backbone)}
    assert thawing
    assert id(vit.pos_embed) not in thawing
    assert not any(p.requires_grad for p in backbone.parameters() if id(p) in thawing)


@pytest.mark.parametrize(
    ("name", "size", "mean", "view"),
    [
        ("resnet18", 224, 0.485, (0.95, "bicubic")),
        ("vit_base_patch16_siglip_256", 256, 0.5, (0.9, "bicubic")),
        ("tf_efficientnet_lite0", 224, 0.5, (0.875, "bicubic")),
        ("mobilevit_xxs", 256, 0.0, (0.9, "bicubic")),
        ("vgg16", 224, 0.485, (0.875, "bilinear")),
    ],
)
def test_timm_knows_how_its_networks_see(
    compose: Any, name: str, size: int, mean: float, view: tuple[float, str]
) -> None:
    """A user's own values win."""
    chosen = ("train", "data=flowers", "backbone=timm", f"backbone.name={name}")
    config = compose(*chosen)
    assert (config.backbone.image_size, config.backbone.mean[0]) == (size, mean)
    assert len(config.backbone.std) == 3
    views = config.data.transform
    assert (views.test.crop, views.test.interpolation) == view
    assert views.train.interpolation == view[1]
    config = compose(
        *chosen, "backbone.image_size=96", "backbone.mean=[0,0,0]", "backbone.crop=1",
        "backbone.interpolation=bilinear",
    )  # fmt: skip
    assert (config.backbone.image_size, list(config.backbone.mean)) == (96, [0, 0, 0])
    assert (config.data.transform.test.crop, config.data.transform.test.size) == (1, 96)


def test_a_misspelt_network_of_timm_in_a_configuration(compose: Any) -> None:
    with pytest.raises(Exception, match="timm has no model 'resnet999'"):
        _ = compose(
            "train", "data=flowers", "backbone=timm", "backbone.name=resnet999"
        ).backbone.image_size


@pytest.mark.real
def test_real_weights_name_the_same_class_as_timm(real_data: Path) -> None:
    """The features of a network with its trained classifier put back on."""
    file = real_data.parent / "weights" / "tf_efficientnet_lite0_timm_keys.pth"
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(torch.load(file, weights_only=True))
    ours = made("tf_efficientnet_lite0", "timm", 224, str(file))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(theirs.classifier(ours(images)), theirs(images))
