"""torchvision's classifiers of ImageNet's 1000 classes, each seen as its weights were trained."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lookalike.compatibility import torchvision_module
from lookalike.data.transforms import centred
from lookalike.errors import InputError
from lookalike.inference.classifier import Classifier
from lookalike.models.backbones import load_weights, state_dict_of
from lookalike.models.folding import fold_batch_norm, foldable


class Normalised(nn.Module):
    """A network with its normalisation before it.

    Args:
        network: normalised images (B, 3, H, W) float32 -> logits (B, C).
        mean: of the training images, (3,) in [0, 1].
        std: of the training images, (3,).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) uint8 -> (B, C)."""
        return self.network((images.float() / 255 - self.mean) / self.std)


def imagenet_classifier(name: str, weights: str) -> Classifier:
    """A network of torchvision.models with its classifier.

    Size, normalisation and class names are those of the weights' enum; a local file is seen as
    the enum's first weights are.

    Args:
        name: such as "resnet50".
        weights: an enum name such as "IMAGENET1K_V1" (downloaded once), or the path of a state
            dict in torchvision's key names, its classifier included.

    Raises:
        InputError: there are no such weights, or they have no classifier of ImageNet's classes.
    """
    models = torchvision_module("models")
    known = models.get_model_weights(name)
    enum = known.__members__.get(weights, next(iter(known)))
    if not enum.meta["categories"]:
        raise InputError(f"{name}'s {weights} has no classifier; set weights={next(iter(known))}")
    network = models.get_model(name, weights=None, **_construction(name))
    state = state_dict_of(name, weights)
    load_weights(network, state, dropped=("AuxLogits", "aux1", "aux2"))
    fold_batch_norm(network.eval(), foldable(network))
    view = enum.transforms()
    (size,), (resize,) = view.crop_size, view.resize_size
    return Classifier(
        name=name,
        network=Normalised(network, view.mean, view.std).eval(),
        class_names=tuple(enum.meta["categories"]),
        transform=centred(size, resize),
    )


def _construction(name: str) -> dict[str, object]:
    """As the weights were trained: Inception's turn the normalisation into [-1, 1] inside."""
    if name in ("inception_v3", "googlenet"):
        # init_weights=False: truncated-normal init of every layer takes 10 s and more
        return {"aux_logits": False, "transform_input": True, "init_weights": False}
    return {}
