"""Backbones, pooling, heads, freezing and the embedder."""

import gc
import weakref
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from lookalike.config import build
from lookalike.errors import InputError
from lookalike.models.backbones import Backbone, torchvision_backbone
from lookalike.models.embedder import Embedder
from lookalike.models.folding import fold_batch_norm, foldable
from lookalike.models.freezing import Freeze, Thaw, layers
from lookalike.models.heads import MLP, Bottleneck, Identity, Linear, PrincipalComponents
from lookalike.models.pooling import AveragePooling, Flatten, GeMPooling

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def backbone(
    weights: str | None = None, name: str = "mobilenet_v2", last: str = "features"
) -> Backbone:
    return torchvision_backbone(name, weights, 64, MEAN, STD, last)


def embedder(**options: object) -> Embedder:
    given = {"head": lambda width: Linear(width, 16), "freeze": Freeze(), **options}
    return Embedder(backbone(), AveragePooling(), **given)


def images(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "last", "size"),
    [
        ("resnet18", "layer4", 64),
        ("mobilenet_v2", "features", 64),
        ("googlenet", "inception5b", 64),
        ("inception_v3", "Mixed_7c", 96),
        pytest.param("vgg16", "features", 64, marks=pytest.mark.slow),
    ],
)
def test_backbone_equals_torchvision_up_to_its_classifier(
    name: str, last: str, size: int, tmp_path: Path
) -> None:
    """With its own pooling and classifier put back on, the logits are torchvision's."""
    torch.manual_seed(0)
    auxiliary = (
        {"aux_logits": False, "init_weights": False} if "cept" in name or "goog" in name else {}
    )
    full = torchvision.models.get_model(name, weights=None, **auxiliary).eval()
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    ours = torchvision_backbone(name, str(tmp_path / "weights.pth"), size, MEAN, STD, last).eval()
    batch = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        features = ours(batch)
        if name == "vgg16":
            logits = full.classifier(full.avgpool(features).flatten(1))
        else:
            classifier = full.classifier if name == "mobilenet_v2" else full.fc
            logits = classifier(features.mean((2, 3)))
        torch.testing.assert_close(logits, full(batch))
    assert ours.width == features.shape[1]


ANY = (
    ("alexnet", 64, 4096), ("vgg11", 32, 4096), ("densenet121", 32, 1024), ("vit_b_16", 224, 768),
    ("efficientnet_b0", 32, 1280), ("squeezenet1_1", 32, 512), ("maxvit_t", 224, 512),
    ("swin_t", 32, 768), ("convnext_tiny", 32, 768), ("mnasnet0_5", 32, 1280),
    ("shufflenet_v2_x0_5", 32, 1024), ("regnet_y_400mf", 32, 440), ("inception_v3", 96, 2048),
)  # fmt: skip
QUICK = ("squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x0_5")


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [pytest.param(*each, marks=[] if each[0] in QUICK else [pytest.mark.slow]) for each in ANY],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of inception_v3")
def test_any_network_of_torchvision(name: str, size: int, width: int, tmp_path: Path) -> None:
    """What enters its last layer, caught by a hook."""
    torch.manual_seed(0)
    auxiliary = {"aux_logits": False, "init_weights": False} if "cept" in name else {}
    full = torchvision.models.get_model(name, weights=None, **auxiliary).eval()
    torch.save(full.state_dict(), tmp_path / "weights.pth")
    ours = torchvision_backbone(name, str(tmp_path / "weights.pth"), size, MEAN, STD, None).eval()
    layer = {"squeezenet1_1": nn.Conv2d}.get(name, nn.Linear)
    last = [module for module in full.modules() if isinstance(module, layer)][-1]
    caught: list[Tensor] = []
    last.register_forward_hook(lambda _, given, __: caught.append(given[0]))
    images = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        found, _ = ours(images), full(images)
    expected = caught[0].relu().mean((2, 3)) if name == "squeezenet1_1" else caught[0]
    torch.testing.assert_close(found, expected)
    assert ours.shape == (width,)


def test_torchvision_knows_how_its_networks_see(compose: Any) -> None:
    chosen = ("train", "data=flowers", "backbone=torchvision")
    config = compose(*chosen, "backbone.name=swin_t")
    test = config.data.transform.test
    assert (config.backbone.image_size, test.interpolation) == (224, "bicubic")
    assert build(test).short_side == 232
    assert compose(*chosen, "backbone.name=inception_v3").backbone.mean == [0.5, 0.5, 0.5]
    with pytest.raises(Exception, match=r"no network 'resnet51'.*resnet50"):
        _ = compose(*chosen, "backbone.name=resnet51").backbone.crop


@pytest.mark.parametrize(
    ("name", "last"),
    [("resnet18", "layer4"), ("mobilenet_v2", "features"), ("googlenet", "inception5b")],
)
def test_folding_batch_norm_changes_the_steps_and_not_the_result(name: str, last: str) -> None:
    torch.manual_seed(0)
    full = backbone(name=name, last=last)
    for _ in range(3):  # statistics other than 0 and 1
        full(torch.rand(8, 3, 64, 64))
    batch = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = full.eval()(batch)
        fold_batch_norm(full.network, foldable(full.network))
        torch.testing.assert_close(full(batch), expected, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in full.modules())


def test_a_network_that_decides_as_it_goes_is_not_folded() -> None:
    class Deciding(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if images.sum() > 0 else -images

    assert foldable(Deciding().eval()) == []


def test_a_convolution_with_another_reader_is_not_folded() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read_twice, self.used_twice, self.plain = (nn.Conv2d(3, 3, 1) for _ in range(3))
            self.first, self.second, self.third = (nn.BatchNorm2d(3) for _ in range(3))

        def forward(self, images: Tensor) -> Tensor:
            read = self.read_twice(images)
            images = self.second(self.used_twice(self.first(read) + read))
            return self.third(self.plain(self.used_twice(images)))

    assert foldable(Branching().eval()) == [("plain", "third")]


def test_measuring_leaves_the_trained_network_alone() -> None:
    trained = embedder()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    measuring = trained.for_measuring()
    torch.testing.assert_close(measuring(images(3)).norm(dim=1), torch.ones(3))
    assert trained.training
    assert not measuring.training
    torch.testing.assert_close(dict(trained.state_dict()), before, rtol=0, atol=0)


def test_a_copy_for_measuring_is_freed_without_garbage_collection() -> None:
    trained = embedder()
    gc.disable()  # it would come too late for a network that fills a GPU
    try:
        measuring = trained.for_measuring()
        weights = [weakref.ref(parameter) for parameter in measuring.parameters()]
        del measuring
        assert not any(weight() is not None for weight in weights)
    finally:
        gc.enable()


def test_weights_may_lack_the_classifier_or_bring_another_one(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    bare = {key: value for key, value in state.items() if not key.startswith("classifier")}
    other = {
        **bare,
        "classifier.1.weight": torch.zeros(5, 1280),
        "classifier.1.bias": torch.zeros(5),
    }
    for number, each in enumerate((bare, other)):
        torch.save(each, tmp_path / f"{number}.pth")
        loaded = backbone(str(tmp_path / f"{number}.pth")).network.state_dict()
        torch.testing.assert_close(loaded["features.0.0.weight"], state["features.0.0.weight"])


def test_weights_of_another_network_are_reported(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"not of this MobileNetV2: \d+ missing .* \d+ unexpected"):
        backbone(str(tmp_path / "resnet.pth"))


def test_weights_of_another_shape_are_reported(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v2(weights=None, width_mult=0.5).state_dict()
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(InputError, match=r"other shape \(features"):
        backbone(str(tmp_path / "half.pth"))


def test_weights_that_can_not_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"mobilenet_v2-b0353104.pth .* backbone.weights=<file>"):
        backbone("IMAGENET1K_V1")


def test_weights_that_are_nowhere_or_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a file nor one of IMAGENET1K_V1, IMAGENET1K_V2"):
        backbone("IMAGENET1K_V9")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match="no state dict that torch can read safely"):
        backbone(str(tmp_path / "text.pth"))


def test_average_and_gem_pooling() -> None:
    features = torch.rand(2, 3, 4, 5) + 0.1
    torch.testing.assert_close(AveragePooling()(features), features.mean((2, 3)))
    torch.testing.assert_close(GeMPooling(1.0)(features), features.mean((2, 3)))
    expected = (features.double() ** 3).mean((2, 3)) ** (1 / 3)
    torch.testing.assert_close(GeMPooling(3.0)(features), expected.float())
    torch.testing.assert_close(
        GeMPooling(200.0)(features), features.amax((2, 3)), atol=0.05, rtol=0
    )


def test_embeddings_have_length_one_and_come_from_normalised_images() -> None:
    model = embedder(head=Identity).eval()
    batch = images()
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        expected = model.backbone((batch / 255 - mean) / std).mean((2, 3))
        found = model(batch)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert model.embedding_size == 1280


@pytest.mark.parametrize(
    "head",
    [
        lambda width: Linear(width, 16, dropout=0.1),
        lambda width: Bottleneck(width, 16),
        lambda width: MLP(width, 16, hidden=(32, 24), dropout=0.3),
        lambda width: PrincipalComponents(width, 16),
    ],
)
def test_heads_learn(head: object) -> None:
    model = embedder(head=head)
    assert model.embedding_size == 16
    model(images(4)).square()[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def test_channels_last_changes_the_layout_and_not_the_result() -> None:
    torch.manual_seed(0)
    first = embedder(channels_last=True).eval()
    second = embedder(channels_last=False).eval()
    second.load_state_dict(first.state_dict())
    weight = first.backbone.network[0][0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    batch = images()
    with torch.inference_mode():
        torch.testing.assert_close(first(batch), second(batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_principal_components_equal_scikit_learn(whitening: float) -> None:
    from sklearn.decomposition import PCA

    features = torch.randn(200, 20, generator=torch.Generator().manual_seed(0)) * torch.arange(
        1, 21
    )
    head = PrincipalComponents(20, 5, whitening=whitening)
    head.start(features)
    theirs = PCA(5).fit(features.numpy())
    spread = np.sqrt(theirs.explained_variance_ / theirs.explained_variance_[0])
    expected = theirs.transform(features.numpy()) / spread**whitening
    found = head(features).detach().numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=0.01, atol=0.05)


def test_principal_components_need_enough_of_everything() -> None:
    with pytest.raises(InputError, match=r"Set embedding_size=20 or less"):
        PrincipalComponents(20, 21)
    with pytest.raises(InputError, match="3 training images give no 5 principal components"):
        PrincipalComponents(20, 5).start(torch.randn(3, 20))


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_freezing_all_batch_norm_and_below() -> None:
    model = embedder(freeze=Freeze(below=None)).train()
    assert learning(model) == {"head.linear.weight", "head.linear.bias"}
    assert not any(module.training for module in layers(model.backbone))

    model = embedder(freeze=Freeze(batch_norm=True)).train()
    assert all(
        module.training != isinstance(module, nn.BatchNorm2d) for module in layers(model.backbone)
    )
    assert learning(model) == {name for name, _ in model.named_parameters()}

    model = embedder(freeze=Freeze(below=30)).train()
    numbered = layers(model.backbone)
    assert not any(p.requires_grad for layer in numbered[:30] for p in layer.parameters())
    assert all(p.requires_grad for layer in numbered[30:] for p in layer.parameters())
    assert [layer.training for layer in numbered] == [False] * 30 + [True] * (len(numbered) - 30)


def test_frozen_statistics_do_not_move() -> None:
    model = embedder(freeze=Freeze(batch_norm=True)).train()
    before = model.backbone.network[0][0][1].running_mean.clone()
    model(images(4))
    torch.testing.assert_close(model.backbone.network[0][0][1].running_mean, before)
    free = embedder().train()
    free(images(4))
    assert free.backbone.network[0][0][1].running_mean.abs().sum() > 0


def test_several_views_and_cached_features() -> None:
    """With a linear head, the mean of the features gives the sum of the views' head outputs."""
    model = embedder().eval()
    views = torch.stack([images(), images(), images()], 1)  # (B, 3 views, 3, H, W)
    with torch.inference_mode():
        outputs = [model.head(model.features(views[:, view])) for view in range(3)]
        summed = torch.nn.functional.normalize(sum(outputs))
        torch.testing.assert_close(model(views), summed)
        torch.testing.assert_close(model(model.features(views)), summed)


def test_thawing_layers_keep_still_until_their_epoch() -> None:
    model = embedder(freeze=Freeze(below=None, thaw=Thaw(epoch=2, from_layer=100))).train()
    numbered = layers(model.backbone)
    waiting = {id(p) for p in model.freeze.thawing(model.backbone)}
    assert waiting == {id(p) for layer in numbered[100:] for p in layer.parameters()}
    assert not model.has_fixed_features
    for epoch, first in ((0, len(numbered)), (1, len(numbered)), (2, 100), (3, 100)):
        model.thaw(epoch)
        assert [layer.training for layer in numbered] == (
            [False] * first + [True] * (len(numbered) - first)
        )
        assert not any(p.requires_grad for layer in numbered[:first] for p in layer.parameters())
        assert all(p.requires_grad for layer in numbered[first:] for p in layer.parameters())
        assert len(model.freeze.thawing(model.backbone)) == (len(waiting) if epoch < 2 else 0)
    model.eval().train()
    assert not numbered[99].training


@pytest.mark.parametrize("layer", [-1, 139, 500])
def test_a_layer_that_does_not_exist_can_not_thaw(layer: int) -> None:
    with pytest.raises(InputError, match=r"thaws nothing: .* Set it to 0\.\.\.138"):
        embedder(freeze=Freeze(below=None, thaw=Thaw(epoch=1, from_layer=layer)))
    with pytest.raises(InputError, match="need 1 or more"):
        Thaw(epoch=0, from_layer=1)


def test_flattened_features_keep_their_places() -> None:
    model = Embedder(backbone(), Flatten(), lambda width: Linear(width, 16), Freeze()).eval()
    batch = images()
    with torch.inference_mode():
        scaled = (batch / 255 - model.mean) / model.std
        expected = model.backbone(scaled).reshape(2, -1)
        torch.testing.assert_close(model.features(batch), expected)
    assert model.width == model.head.linear.in_features == 1280 * 2 * 2


def test_an_activated_mlp_ends_as_its_hidden_layers_do() -> None:
    plain, activated = (MLP(8, 4, (16, 12), 0.3, activated=each).eval() for each in (False, True))
    activated.load_state_dict(plain.state_dict())
    features = torch.randn(5, 8)
    torch.testing.assert_close(activated(features), plain(features).relu())
    assert [type(layer).__name__ for layer in activated.layers] == ["Linear", "ReLU", "Dropout"] * 3


def test_the_length_before_normalising() -> None:
    model = embedder().eval()
    batch = images()
    with torch.inference_mode():
        raw = model.unnormalised(batch)
        torch.testing.assert_close(model(batch), raw / raw.norm(dim=1, keepdim=True))
    assert (raw.norm(dim=1) - 1).abs().min() > 1e-3


@pytest.mark.parametrize("error", [TypeError, RuntimeError, NotImplementedError])
def test_a_network_that_breaks_the_tracing_is_not_folded(error: type[Exception]) -> None:
    class Breaks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if not isinstance(images, Tensor):
                raise error("no tracing")
            return images

    assert foldable(Breaks()) == []


@pytest.mark.parametrize("name", ["nest_tiny_jx", "test_vit"])
def test_timm_s_networks_that_can_not_be_traced(name: str) -> None:
    network = timm.create_model(name, num_classes=0, global_pool="").eval()
    foldable(network)  # whatever it finds, it does not raise
