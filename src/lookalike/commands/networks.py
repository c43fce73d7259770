"""The network that embeds, as a command line names it: a checkpoint, or a pretrained backbone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lookalike.config import as_list, build, check_arguments, config_folder
from lookalike.data.images import Transform
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, weights_alone
from lookalike.inference.pretrained import pretrained_content, pretrained_embedder
from lookalike.models.embedder import Embedder


def check_one_network(config: DictConfig) -> None:
    """Raises InputError unless exactly one of checkpoint, model and backbone is given."""
    given = [bool(as_list(config.checkpoint)), bool(config.model), bool(config.backbone)]
    if sum(given) != 1 or len(config.model) > 1:
        raise InputError(
            "give what embeds the images, one of: checkpoint=RUN/checkpoints/best.ckpt (or a list, "
            "to vote), model=mobilenet_v2, or backbone=timm backbone.name=... backbone.weights=..."
        )


def embedder_of(
    config: DictConfig, checkpoints: Sequence[Checkpoint]
) -> tuple[Embedder, Transform]:
    """What embeds, and how it sees an image: of the first checkpoint, or pretrained."""
    if checkpoints:
        return checkpoints[0].embedder(), checkpoints[0].transform()
    backbone = pretrained_backbone(config)
    return pretrained_embedder(build(backbone), build(config.pooling))


def content_of(config: DictConfig) -> dict[str, Any]:
    """The same network as the content of a checkpoint, to be saved with an index."""
    checkpoints = as_list(config.checkpoint)
    if len(checkpoints) > 1:
        raise InputError("an index has one network: give one checkpoint=")
    if checkpoints:
        return weights_alone(Path(str(checkpoints[0])))
    parts: list[Any] = [
        OmegaConf.to_container(each, resolve=True)
        for each in (pretrained_backbone(config), config.pooling)
    ]
    return pretrained_content(*parts)


def pretrained_backbone(config: DictConfig) -> Any:
    """The backbone that model= or backbone= names.

    Raises:
        InputError: it has no weights.
    """
    backbone: Any = config.backbone
    for name, model in config.model.items():
        backbone = OmegaConf.merge(OmegaConf.load(_backbone_file(name)), {"weights": model.weights})
    if backbone.get("weights") is None:
        raise InputError(
            "backbone.weights=null is a random network, which finds nothing. Give a file or the "
            "name of pretrained weights, such as backbone.weights=IMAGENET1K_V1 (timm: pretrained)."
        )
    check_arguments(backbone)
    return backbone


def _backbone_file(name: str) -> Path:
    file = config_folder() / "backbone" / f"{name}.yaml"
    if not file.is_file():
        raise InputError(f"model={name} is no backbone; give backbone=... and backbone.weights=...")
    return file
