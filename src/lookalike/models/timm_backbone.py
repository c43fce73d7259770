"""Any network of timm as a backbone: which of its features, and at which image size."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lookalike.compatibility import timm_module
from lookalike.errors import InputError, did_you_mean
from lookalike.hub import is_on_hub
from lookalike.models.backbones import Backbone, hub_file, load_weights, read_state_dict

Pool = Literal["timm", "cls", "mean", "cls_mean", "attention", "map"]


def timm_backbone(
    name: str,
    weights: str | None,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    pool: Pool,
    crop: float = 1.0,
    interpolation: str = "bilinear",
) -> Backbone:
    """Any network of timm without its classifier.

    Args:
        name: one of `timm.list_models()`, with or without a tag of pretrained weights.
        weights: "pretrained" for timm's own, the path of a state dict, a repository of the Hub such
            as "hf-hub:timm/resnet18.a1_in1k", or null for random ones.
        image_size: side of the square images, pixels. A transformer takes another size than it was
            trained with if its patches divide it: its position embedding is interpolated.
        mean: (3,), see `Backbone`.
        std: (3,), see `Backbone`.
        pool: its features. "timm": those that its own classifier sees, (B, C). Of a transformer
            also "cls": its class token; "mean": the mean of its patch tokens, without class and
            register tokens; "cls_mean": both, (B, 2 C); "attention": its trained attention pool.
            "map": a map (B, C, h, w), or patch tokens (B, C, T, 1), which `pooling` pools.
        crop: see `Backbone`.
        interpolation: see `Backbone`.

    Raises:
        InputError: timm is not installed or has no such model, the weights do not fit it, or it
            has no such features or takes no images of this size.
    """
    shape_only = _create(name, "meta")
    _check_pool(shape_only, name, pool)
    options = _size_options(shape_only, image_size)
    if pool == "map" and not _attends(shape_only):
        options["global_pool"] = ""
    if weights is not None and is_on_hub(weights):  # as a file, in which timm renames its old keys
        options["pretrained_cfg_overlay"] = {"file": str(hub_file(weights))}
        weights = "pretrained"
    network = _create(name, "cpu", pretrained=weights == "pretrained", **options)
    if weights not in (None, "pretrained"):
        load_weights(network, read_state_dict(Path(weights)), dropped=_classifiers(network))
    kinds = {"timm": _Own, "map": _Map}
    features = kinds[pool](network) if pool in kinds else _Tokens(network, pool)
    try:
        return Backbone(features, image_size, mean, std, crop, interpolation)
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"{name} takes no images of {image_size} pixels ({error}). Set backbone.image_size, "
            f"for example to {_trained_size(network)}, with which it was trained."
        ) from error


class _Own(nn.Module):
    """What timm's own classifier sees: images -> (B, C)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_head(self.network.forward_features(images), pre_logits=True)


class _Tokens(nn.Module):
    """A transformer's tokens, pooled otherwise than timm does: images -> (B, C), or (B, 2 C)."""

    def __init__(self, network: Any, pool: Pool) -> None:
        super().__init__()
        self.network = network
        self.pool = pool
        self.others = network.num_prefix_tokens  # tokens of no patch: class, registers

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.network.forward_features(images)  # (B, T, C)
        norm = getattr(self.network, "fc_norm", None) or nn.Identity()
        if self.pool == "attention":
            return norm(self.network.attn_pool(tokens))
        parts = {"cls": tokens[:, 0], "mean": tokens[:, self.others :].mean(1)}
        return torch.cat([norm(parts[part]) for part in self.pool.split("_")], 1)


class _Map(nn.Module):
    """Features before pooling with the channels first: images -> (B, C, h, w), or (B, C, T, 1).

    Tokens of a transformer, (B, T, C), become (B, C, T, 1), without its class and register tokens.
    A map with the channels last, as Swin has it, is transposed.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.others = int(getattr(network, "num_prefix_tokens", 0))
        names = ("num_features", "head_hidden_size")
        self.widths = {int(getattr(network, name, 0) or 0) for name in names}

    def forward(self, images: Tensor) -> Tensor:
        network = self.network
        features = network.forward_features(images) if _attends(network) else network(images)
        if features.ndim == 3:
            return features[:, self.others :].transpose(1, 2).unsqueeze(-1)
        channels_last = features.ndim == 4 and int(features.shape[1]) not in self.widths
        return features.permute(0, 3, 1, 2) if channels_last else features


def _create(name: str, device: str, **options: Any) -> Any:
    timm = timm_module()
    try:
        with torch.device(device):
            return timm.create_model(name, num_classes=0, **options)
    except RuntimeError as error:
        hint = did_you_mean(name, timm.list_models())
        raise InputError(f"timm has no model {name!r} ({error}).{hint}") from error


def _attends(network: nn.Module) -> bool:
    """Whether it pools by trained attention, as SigLIP's do."""
    return getattr(network, "attn_pool", None) is not None


def _check_pool(network: nn.Module, name: str, pool: str) -> None:
    if pool not in get_args(Pool):
        known = get_args(Pool)
        raise InputError(
            f"backbone.pool={pool}: it is one of {', '.join(known)}.{did_you_mean(pool, known)}"
        )
    missing = {
        "a class token": "cls" in pool and getattr(network, "cls_token", None) is None,
        "tokens": "mean" in pool and not hasattr(network, "num_prefix_tokens"),
        "a trained attention pool": pool == "attention" and not _attends(network),
    }
    for what in (what for what, is_missing in missing.items() if is_missing):
        raise InputError(
            f"{name} lacks {what}, which backbone.pool={pool} needs. Its own pooling is "
            "backbone.pool=timm."
        )


def _size_options(network: Any, image_size: int) -> dict[str, Any]:
    """What lets a network take another image size than it was trained with."""
    arguments = inspect.signature(type(network)).parameters
    if image_size == _trained_size(network):
        return {}
    if "dynamic_img_size" in arguments:
        return {"dynamic_img_size": True}
    return {"img_size": image_size} if "img_size" in arguments else {}


def _trained_size(network: Any) -> int:
    return network.pretrained_cfg["input_size"][-1]


def _classifiers(network: Any) -> Sequence[str]:
    """The dotted names of the modules that make logits; "head.fc" beside a trained "head.norm"."""
    names = network.pretrained_cfg.get("classifier") or ()
    return [names] if isinstance(names, str) else names
