"""Backbones: normalised images (B, 3, H, W) -> a feature map (B, width, h, w), or (B, width).

torchvision's networks without their classifiers, and any of timm's. Weights are torchvision's by
their enum's name ("IMAGENET1K_V2"), a local file, or none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lookalike.compatibility import torchvision_module
from lookalike.errors import InputError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class Backbone(nn.Module):
    """A network that ends before pooling, and what it wants to see.

    Args:
        network: (B, 3, H, W) float32 -> (B, width, h, w), or (B, width) already pooled.
        image_size: side of the square images that it is trained and measured with, pixels.
        mean, std: (3,) of the training images in [0, 1], for normalising.
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
        """Channels."""
        return self.shape[0]

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    @torch.inference_mode()
    def _measure_shape(self) -> tuple[int, ...]:
        """Of one image's features: (width, h, w), or (width,)."""
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
            in torchvision's key names, or null for a random start.
        last_layer: the child whose output is the feature map; what follows it is dropped.
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
    """Any network of timm, without classifier and pooling.

    Args:
        name: as in `timm.list_models()`, with or without a tag of pretrained weights.
        weights: "pretrained" for timm's own, the path of a state dict, or null.
    """
    try:
        torchvision_module()  # timm imports it
        import timm  # an extra
    except ImportError:
        raise InputError('backbone=timm needs timm: pip install "lookalike[timm]"') from None
    try:
        network = timm.create_model(
            name, pretrained=weights == "pretrained", num_classes=0, global_pool=""
        )
    except RuntimeError as error:
        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8])
        raise InputError(f"timm has no model {name!r} ({error}). Close: {close}") from error
    if weights not in (None, "pretrained"):
        load_weights(network, read_state_dict(Path(weights)), dropped=("head", "classifier", "fc"))
    return Backbone(_ChannelsFirst(network), image_size, mean, std)


class _ChannelsFirst(nn.Module):
    """timm's transformers give tokens (B, T, C): as a map (B, C, T, 1) they can be pooled."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features = self.network(images)
        return features.mT.unsqueeze(-1) if features.ndim == 3 else features


def _construction(name: str) -> dict[str, object]:
    """Arguments that keep torchvision from building, or warning of, auxiliary heads."""
    if name in ("inception_v3", "googlenet"):
        # init_weights=False: truncated-normal init of every layer takes 10 s and more
        return {"aux_logits": False, "transform_input": False, "init_weights": False}
    return {}


def _children_after(network: nn.Module, last_layer: str) -> tuple[str, ...]:
    names = [name for name, _ in network.named_children()]
    auxiliary = ("AuxLogits", "aux1", "aux2")
    return (*names[names.index(last_layer) + 1 :], *auxiliary)


def _up_to(network: nn.Module, last_layer: str) -> nn.Sequential:
    """The children up to `last_layer`, under their own names; torchvision applies them in order."""
    kept = nn.Sequential()
    for name, child in network.named_children():
        kept.add_module(name, child)
        if name == last_layer:
            break
    return kept


def state_dict_of(name: str, weights: str) -> dict[str, Tensor]:
    """Weights of torchvision's network, by their enum's name (downloaded once) or from a file.

    Raises:
        InputError: they are neither, or the file can't be read.
    """
    available = torchvision_module("models").get_model_weights(name)
    if weights in available.__members__:
        return _downloaded(available[weights])
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


def read_state_dict(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(f"no weights at {file.resolve()}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, depending on what the bytes look like
        raise InputError(f"{file} is no state dict that torch can read safely: {error}") from error


def load_weights(network: nn.Module, state: dict[str, Tensor], dropped: Sequence[str]) -> None:
    """Load a state dict, or say which keys are missing, unexpected or of another shape.

    Keys of the `dropped` children (a classifier) may be absent, present or of any shape.
    """
    own = network.state_dict()
    dropped_keys = {key for key in {*own, *state} if key.split(".")[0] in dropped}
    missing = own.keys() - state.keys() - dropped_keys
    missing = {key for key in missing if not key.endswith("num_batches_tracked")}
    unexpected = state.keys() - own.keys() - dropped_keys
    reshaped = {
        key
        for key in (own.keys() & state.keys()) - dropped_keys
        if own[key].shape != state[key].shape
    }
    if missing or unexpected or reshaped:
        parts = (("missing", missing), ("unexpected", unexpected), ("other shape", reshaped))
        report = "; ".join(f"{len(keys)} {what} ({_some(keys)})" for what, keys in parts if keys)
        raise InputError(
            f"these weights are not of this {type(network).__name__}: {report}. Give a state dict "
            "of the same network, or choose the network that they are of."
        )
    network.load_state_dict({**own, **{k: v for k, v in state.items() if k not in dropped_keys}})


def _some(keys: set[str], count: int = 3) -> str:
    shown = sorted(keys)[:count]
    return ", ".join(shown) + (", ..." if len(keys) > count else "")
