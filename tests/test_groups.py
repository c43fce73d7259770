"""Parameter groups: rates that fall towards the images, and what weight decay spares."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from lookalike.models.embedder import Embedder
from lookalike.models.freezing import Freeze, Thaw
from lookalike.models.heads import Linear
from lookalike.models.pooling import AveragePooling
from lookalike.models.timm_backbone import timm_backbone
from lookalike.training.experiment import Experiment
from lookalike.training.groups import parameter_groups

MEAN = STD = (0.5, 0.5, 0.5)
RATES = {"backbone": 0.5, "thawed": 0.25, "head": 0.1, "loss": 2.0, "layer_decay": 0.75}


def embedder(name: str, size: int, freeze: Freeze = Freeze()) -> Embedder:  # noqa: B008
    backbone = timm_backbone(name, None, size, MEAN, STD, "timm")
    return Embedder(backbone, AveragePooling(), lambda width: Linear(width, 4), freeze)


def by_name(model: Embedder, groups: list[dict[str, Any]]) -> dict[str, tuple[float, bool]]:
    """Learning rate and whether it decays, of the parameters of timm's network."""
    network: Any = model.backbone.network.network
    found = {
        id(each): (group["lr"], "weight_decay" not in group)
        for group in groups
        for each in group["params"]
    }
    return {name: found[id(each)] for name, each in network.named_parameters() if id(each) in found}


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_vit", 32), ("test_convnext", 32),
     pytest.param("swin_tiny_patch4_window7_224", 224, marks=pytest.mark.slow)],
)  # fmt: skip
def test_rates_and_decay_are_those_of_timm(name: str, size: int) -> None:
    model = embedder(name, size)
    network: Any = model.backbone.network.network
    spared = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    theirs = param_groups_layer_decay(network, 0.05, spared, layer_decay=0.75)
    of = {id(each): name for name, each in network.named_parameters()}
    expected = {
        of[id(each)]: (0.5 * group["lr_scale"], group["weight_decay"] > 0)
        for group in theirs
        for each in group["params"]
    }
    found = by_name(model, parameter_groups(model, nn.Identity(), RATES, decay_norms=False))
    assert found.keys() == expected.keys() == set(of.values())
    for key, (rate, decays) in expected.items():
        assert found[key] == (pytest.approx(rate), decays), key
    assert len({rate for rate, _ in expected.values()}) > 4


def test_head_and_loss_learn_at_their_own_rates_and_every_parameter_once() -> None:
    model = embedder("test_vit", 32)
    loss = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    groups = parameter_groups(model, loss, RATES, decay_norms=False)
    rates = {name: {g["lr"] for g in groups if g["name"] == name} for name in ("head", "loss")}
    assert rates == {"head": {0.1}, "loss": {2.0}}
    spared = [each.ndim for g in groups if g["name"] != "backbone" and "weight_decay" in g
              for each in g["params"]]  # fmt: skip
    assert spared == [1, 1, 1, 1]  # two biases, and the scale and shift of the norm
    everything = [id(each) for group in groups for each in group["params"]]
    assert sorted(everything) == sorted(id(p) for m in (model, loss) for p in m.parameters())
    of_backbone = [group["lr"] for group in groups if group["name"] == "backbone"]
    assert of_backbone == sorted(of_backbone)
    assert of_backbone[-1] == 0.5


def test_what_thaws_later_and_what_never_learns() -> None:
    """Blocks 5 and 6 of 7 thaw."""
    model = embedder("test_vit", 32, Freeze(None, False, Thaw(1, 5), "blocks"))
    groups = parameter_groups(model, nn.Identity(), RATES)
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("head", 0.1), ("thawed", 0.25 * 0.75), ("thawed", 0.25),
    ]  # fmt: skip
    found = by_name(model, groups)
    assert {name.split(".")[1] for name in found if name.startswith("blocks")} == {"4", "5"}


def test_without_it_the_groups_are_one_for_each_rate() -> None:
    model, loss = embedder("test_vit", 32), nn.Linear(4, 3)
    for rates in (RATES | {"layer_decay": 1.0}, {k: v for k, v in RATES.items() if k[-1] != "y"}):
        groups = parameter_groups(model, loss, rates)
        assert [(group["name"], group["lr"]) for group in groups] == [
            ("backbone", 0.5), ("head", 0.1), ("loss", 2.0),
        ]  # fmt: skip
        assert all(set(group) == {"params", "lr", "name"} for group in groups)
        assert [*map(id, groups[0]["params"])] == [*map(id, model.backbone.parameters())]


def test_a_network_of_no_library() -> None:
    """Three linear layers, each at half the rate of the next one."""
    from lookalike.models.backbones import Backbone

    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 2)
    )
    backbone = Backbone(network, 2, MEAN, STD)
    model = Embedder(backbone, AveragePooling(), lambda width: Linear(width, 4), Freeze())
    groups = parameter_groups(model, nn.Identity(), RATES | {"layer_decay": 0.5})
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    layers = [network[place] for place in (1, 3, 4, 5)]
    assert [{rates[id(p)] for p in layer.parameters()} for layer in layers] == [
        {0.125}, {0.25}, {0.25}, {0.5},
    ]  # fmt: skip


def groups_of(run: Experiment) -> list[dict[str, Any]]:
    content = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    return content["optimizer_states"][0]["param_groups"]


def test_a_run_with_them_is_resumed_and_its_schedule_multiplies_all_rates(
    compose: Any, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """A network of two blocks; the second run is resumed after the first of two epochs."""

    def made(folder: str, *overrides: str) -> Experiment:
        config = compose(
            "train", *tiny, "backbone=siamese", "backbone.channels=[4]", "backbone.hidden=[8]",
            "backbone.image_size=16", "learning_rate.layer_decay=0.5", "decay_norms=false",
            "optimizer.weight_decay=0.1", "scheduler=cosine", "trainer.max_epochs=2",
            "data.sampler.batches_per_epoch=3", "loss=proxy_anchor", *overrides,
        )  # fmt: skip
        return Experiment(config, tmp_path / folder)

    whole = made("whole", "scheduler.final=0.5")
    whole.fit()
    assert "2 learning rates in the backbone, 5e-05 to 0.0001" in whole.learner.description()
    found = {(g["name"], g["lr"], g["weight_decay"]) for g in groups_of(whole)}
    assert found == {
        ("backbone", 2.5e-5, 0.1), ("backbone", 2.5e-5, 0.0), ("backbone", 5e-5, 0.1),
        ("backbone", 5e-5, 0.0), ("head", 5e-5, 0.1), ("head", 5e-5, 0.0), ("loss", 5e-3, 0.1),
    }  # fmt: skip
    half = made("half", "scheduler.final=0.5", "trainer.max_epochs=1", "learner.planned_epochs=2")
    half.fit()
    last = str(half.folder / "checkpoints" / "last.ckpt")
    again = made("again", "scheduler.final=0.5")
    again.fit(last)
    state = again.learner.state_dict()
    assert all(torch.equal(each, state[k]) for k, each in whole.learner.state_dict().items())
    slower = made("slower", "scheduler.final=0.5", "learning_rate.layer_decay=0.1")
    slower.fit(last)
    assert {round(g["lr"], 9) for g in groups_of(slower)} == {5e-6, 5e-5, 5e-3}


@torch.no_grad()
def test_timm_has_a_network_whose_names_are_spared() -> None:
    """Otherwise the comparison above would not see them."""
    assert "pos_embed" in timm.create_model("test_vit").no_weight_decay()
