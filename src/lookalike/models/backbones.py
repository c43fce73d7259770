"""Backbones: normalised images (B, 3, H, W) -> a feature map (B, width, h, w), or (B, width).

torchvision's networks without their classifiers; timm's are in `timm_backbone`. Weights are
torchvision's by their enum's name ("IMAGENET1K_V2"), of a local file or of the Hub, or none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike.compatibility import torchvision_module
from lookalike.errors import InputError
from lookalike.hub import fetched, is_on_hub

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


AUXILIARY = ("AuxLogits", "aux1", "aux2")  # heads that only torchvision's training uses


class Backbone(nn.Module):
    """A network up to its last feature map, and the images that it expects.

    Args:
        network: (B, 3, H, W) float32 -> (B, width, h, w), or (B, width) if it pools itself.
        image_size: side of the square images in training and evaluation, pixels.
        mean: (3,), of its training images scaled to [0, 1], for normalising.
        std: (3,), of the same images.
        crop: share of the resized image's short side that the view for measuring covers, in (0, 1].
        interpolation: by which images are resized: "bilinear" or "bicubic".
    """

    def __init__(
        self,
        network: nn.Module,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        crop: float = 1.0,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        self.network = network
        self.image_size = image_size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.crop = crop
        self.interpolation = interpolation
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
    last_layer: str | None,
    crop: float = 1.0,
    interpolation: str = "bilinear",
) -> Backbone:
    """A torchvision classification network without its classifier.

    Args:
        name: of torchvision.models, such as "resnet50".
        weights: an enum name such as "IMAGENET1K_V1" (downloaded once), the path of a state dict
            with torchvision's key names, a repository that has one ("hf-hub:timm/resnet18.tv_in1k")
            or null for random weights.
        image_size: side of the square images, pixels.
        mean: (3,), see `Backbone`.
        std: (3,), see `Backbone`.
        last_layer: the child module whose output is the feature map; all after it is dropped.
            Null for the features that its last layer classifies, (B, width).
        crop: see `Backbone`.
        interpolation: see `Backbone`.

    Raises:
        InputError: the weights can't be found, read, or do not fit the network.
    """
    full = torchvision_module("models").get_model(name, weights=None, **_construction(name))
    dropped = _children_after(full, last_layer) if last_layer else [_classifier_of(full)]
    if weights is not None:
        load_weights(full, state_dict_of(name, weights), (*dropped, *AUXILIARY))
    if last_layer:
        full = _up_to(full, last_layer)
    else:
        full.set_submodule(dropped[0], nn.Identity())
    return Backbone(full, image_size, mean, std, crop, interpolation)


def _construction(name: str) -> dict[str, object]:
    """Arguments that stop torchvision from building auxiliary heads, or warning about them."""
    if name in ("inception_v3", "googlenet"):
        # init_weights=False: truncated-normal init of every layer takes 10 s and more
        return {"aux_logits": False, "transform_input": False, "init_weights": False}
    return {}


def _children_after(network: nn.Module, last_layer: str) -> list[str]:
    names = [name for name, _ in network.named_children()]
    return names[names.index(last_layer) + 1 :]


def _classifier_of(network: nn.Module) -> str:
    """The dotted name of its last layer with weights: linear, or SqueezeNet's convolution."""
    modules = list(network.named_modules())
    linear = [name for name, module in modules if isinstance(module, nn.Linear)]
    return (linear or [name for name, module in modules if isinstance(module, nn.Conv2d)])[-1]


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
        return _downloaded(name, available[weights])
    if is_on_hub(weights):
        return read_state_dict(hub_file(weights))
    if not Path(weights).is_file():
        raise InputError(
            f"no weights {weights!r} for {name}: neither a file nor one of "
            f"{', '.join(available.__members__)}. Set weights to a path or one of these names; a "
            "backbone can start at random too: backbone.weights=null."
        )
    return read_state_dict(Path(weights))


def _downloaded(name: str, weights: "WeightsEnum") -> dict[str, Tensor]:
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise InputError(
            f"can't download {weights} ({error}). Get {weights.url} on another machine and give "
            f"the file: backbone.weights=<file>, or with model={name}: model.{name}.weights=<file>."
        ) from error


def hub_file(place: str) -> Path:
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
        dropped: modules by their dotted names, such as a classifier, whose weights may be missing,
            superfluous or of any shape; those of the state dict are ignored.

    Raises:
        InputError: other keys are missing, unexpected or of another shape.
    """
    own = network.state_dict()
    prefixes = tuple(f"{name}." for name in dropped)
    wanted = {key: value for key, value in own.items() if not key.startswith(prefixes)}
    given = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    problems = _misfits(wanted, given)
    if problems:
        raise InputError(
            f"these weights are not of this {type(network).__name__}: {problems}. Give a state "
            "dict of the same network, or choose the network that they are of."
        )
    own.update(given)  # keeps its versions of modules, which MNASNet asks for
    network.load_state_dict(own)


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
