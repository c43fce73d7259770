"""Backbones: normalised images (B, 3, H, W) -> a feature map (B, width, h, w), or (B, width).

torchvision's networks without their classifiers, and any of timm's. Weights are torchvision's by
their enum's name ("IMAGENET1K_V2"), a local file, a repository of the Hub, or none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike.compatibility import timm_module, torchvision_module
from lookalike.errors import InputError, did_you_mean
from lookalike.hub import fetched, is_on_hub

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class Backbone(nn.Module):
    """A network up to its last feature map, and the images that it expects.

    Args:
        network: (B, 3, H, W) float32 -> (B, width, h, w), or (B, width) if it pools itself.
        image_size: side of the square images in training and evaluation, pixels.
        mean: (3,), of its training images scaled to [0, 1], for normalising.
        std: (3,), of the same images.
    """

    def __init__(
        self, network: nn.Module, image_size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.image_size = image_size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.shape = self._measure_shape()

    @property
    def width(self) -> int:
        """The number of channels of its features."""
        return self.shape[0]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> features (B, width, h, w) or (B, width)."""
        return self.network(images)

    @torch.inference_mode()
    def _measure_shape(self) -> tuple[int, ...]:
        """The shape of one image's features: (width, h, w), or (width,)."""
        training = self.network.training
        self.network.eval()
        features = self.network(torch.zeros(1, 3, self.image_size, self.image_size))
        self.network.train(training)
        return tuple(features.shape[1:])


def torchvision_backbone(
    name: str,
    weights: str | None,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    last_layer: str,
) -> Backbone:
    """A torchvision classification network up to and including its last convolutional layer.

    Args:
        name: of torchvision.models, such as "resnet50".
        weights: an enum name such as "IMAGENET1K_V1" (downloaded once), the path of a state dict
            with torchvision's key names, a repository that has one ("hf-hub:timm/resnet18.tv_in1k")
            or null for random weights.
        image_size: side of the square images, pixels.
        mean: (3,), see `Backbone`.
        std: (3,), see `Backbone`.
        last_layer: the child module whose output is the feature map; all after it is dropped.

    Raises:
        InputError: the weights can't be found, read, or do not fit the network.
    """
    full = torchvision_module("models").get_model(name, weights=None, **_construction(name))
    if weights is not None:
        load_weights(full, state_dict_of(name, weights), dropped=_children_after(full, last_layer))
    return Backbone(_up_to(full, last_layer), image_size, mean, std)


def timm_backbone(
    name: str,
    weights: str | None,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Backbone:
    """Any network of timm, without its classifier and pooling.

    A network that pools by trained attention (SigLIP's) keeps that pooling.

    Args:
        name: one of `timm.list_models()`, with or without a tag of pretrained weights.
        weights: "pretrained" for timm's own, the path of a state dict, a repository of the Hub such
            as "hf-hub:timm/resnet18.a1_in1k", or null for random ones.
        image_size: side of the square images, pixels.
        mean: (3,), see `Backbone`.
        std: (3,), see `Backbone`.

    Raises:
        InputError: timm is not installed or has no such model, or the weights do not fit it.
    """
    timm = timm_module()
    try:
        with torch.device("meta"):  # its shape alone, in no time
            attends = getattr(timm.create_model(name, num_classes=0), "attn_pool", None) is not None
        pooling = {} if attends else {"global_pool": ""}
        overlay = {}
        if weights is not None and is_on_hub(weights):  # as a file, timm renames its old keys
            overlay["pretrained_cfg_overlay"] = {"file": str(_hub_file(weights))}
        network = timm.create_model(
            name, pretrained=weights == "pretrained" or bool(overlay), num_classes=0, **pooling,
            **overlay,
        )  # fmt: skip
    except RuntimeError as error:
        hint = did_you_mean(name, timm.list_models())
        raise InputError(f"timm has no model {name!r} ({error}).{hint}") from error
    if weights not in (None, "pretrained") and not overlay:
        load_weights(network, read_state_dict(Path(weights)), dropped=("head", "classifier", "fc"))
    return Backbone(_ChannelsFirst(network), image_size, mean, std)


class _ChannelsFirst(nn.Module):
    """Turns what timm's networks give into a map with the channels first, for pooling.

    Tokens of a transformer, (B, T, C), become (B, C, T, 1), without its class and register tokens.
    A map with the channels last, as Swin has it, is transposed.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.others = int(getattr(network, "num_prefix_tokens", 0))  # tokens of no patch
        names = ("num_features", "head_hidden_size")
        self.widths = {int(getattr(network, name, 0) or 0) for name in names}

    def forward(self, images: Tensor) -> Tensor:
        features = self.network(images)
        if features.ndim == 3:
            return features[:, self.others :].transpose(1, 2).unsqueeze(-1)
        channels_last = features.ndim == 4 and int(features.shape[1]) not in self.widths
        return features.permute(0, 3, 1, 2) if channels_last else features


def _construction(name: str) -> dict[str, object]:
    """Arguments that stop torchvision from building auxiliary heads, or warning about them."""
    if name in ("inception_v3", "googlenet"):
        # init_weights=False: truncated-normal init of every layer takes 10 s and more
        return {"aux_logits": False, "transform_input": False, "init_weights": False}
    return {}


def _children_after(network: nn.Module, last_layer: str) -> tuple[str, ...]:
    names = [name for name, _ in network.named_children()]
    auxiliary = ("AuxLogits", "aux1", "aux2")
    return (*names[names.index(last_layer) + 1 :], *auxiliary)


def _up_to(network: nn.Module, last_layer: str) -> nn.Sequential:
    """The child modules up to `last_layer`, with their names; torchvision applies them in order."""
    kept = nn.Sequential()
    for name, child in network.named_children():
        kept.add_module(name, child)
        if name == last_layer:
            break
    return kept


def state_dict_of(name: str, weights: str) -> dict[str, Tensor]:
    """The weights of a torchvision network, by the name in their enum or from a file.

    Args:
        name: of the network, in torchvision.models.
        weights: a name such as "IMAGENET1K_V1" (downloaded once), the path of a state dict, or a
            repository of the Hub.

    Raises:
        InputError: there is no such name or file, or it can't be downloaded or read.
    """
    available = torchvision_module("models").get_model_weights(name)
    if weights in available.__members__:
        return _downloaded(available[weights])
    if is_on_hub(weights):
        return read_state_dict(_hub_file(weights))
    if not Path(weights).is_file():
        raise InputError(
            f"no weights {weights!r} for {name}: neither a file nor one of "
            f"{', '.join(available.__members__)}. Set weights to a path or one of these names; a "
            "backbone can start at random too: backbone.weights=null."
        )
    return read_state_dict(Path(weights))


def _downloaded(weights: "WeightsEnum") -> dict[str, Tensor]:
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise InputError(
            f"can't download {weights} ({error}). Get {weights.url} on another machine and give "
            "the file: backbone.weights=<file>, in classify model.<name>.weights=<file>."
        ) from error


def _hub_file(place: str) -> Path:
    """The weights in a repository of the Hub: safetensors alone, which hold no code."""
    file = fetched(place, ["model.safetensors"]) / "model.safetensors"
    if not file.is_file():
        raise InputError(
            f"{place} has no model.safetensors. Take a repository with one, such as "
            "hf-hub:timm/resnet18.a1_in1k, or give a file: backbone.weights=<file>."
        )
    return file


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU; no code in it is run.

    Raises:
        InputError: the file is missing, or holds something else.
    """
    if not file.is_file():
        raise InputError(
            f"no weights at {file.resolve()}. Give a file, or start at random: "
            "backbone.weights=null."
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types, depending on the bytes
        raise InputError(f"{file} is no state dict that torch can read safely: {error}") from error


def load_weights(network: nn.Module, state: dict[str, Tensor], dropped: Sequence[str]) -> None:
    """Load a state dict into a network.

    Args:
        network: changed in place.
        state: parameter name -> weights.
        dropped: child modules, such as a classifier, whose weights may be missing, superfluous or
            of any shape; those of the state dict are ignored.

    Raises:
        InputError: other keys are missing, unexpected or of another shape.
    """
    own = network.state_dict()
    wanted = {key: value for key, value in own.items() if key.split(".")[0] not in dropped}
    given = {key: value for key, value in state.items() if key.split(".")[0] not in dropped}
    problems = _misfits(wanted, given)
    if problems:
        raise InputError(
            f"these weights are not of this {type(network).__name__}: {problems}. Give a state "
            "dict of the same network, or choose the network that they are of."
        )
    network.load_state_dict(own | given)


def _misfits(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """Which keys are missing, unexpected or of another shape; empty if all fit."""
    missing = {k for k in wanted.keys() - given.keys() if not k.endswith("num_batches_tracked")}
    unexpected = given.keys() - wanted.keys()
    common = wanted.keys() & given.keys()
    reshaped = {key for key in common if wanted[key].shape != given[key].shape}
    kinds = (("missing", missing), ("unexpected", unexpected), ("other shape", reshaped))
    return "; ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds if keys)


def _some(keys: set[str], count: int = 3) -> str:
    shown = sorted(keys)[:count]
    return ", ".join(shown) + (", ..." if len(keys) > count else "")
