"""The network that embeds, as a command line names it: checkpoint=, model= or backbone=."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lookalike.config import as_list, build, check_arguments
from lookalike.config_folder import config_folder
from lookalike.errors import InputError
from lookalike.inference.checkpoint import shortened, weights_alone
from lookalike.inference.network import Network, network_in, pretrained_network
from lookalike.inference.pretrained import pretrained_content


def given_network(config: DictConfig) -> Network:
    """What embeds: the first checkpoint or exported file, or a pretrained backbone.

    Args:
        config: has `checkpoint`, `model`, `backbone`, `pooling`, `length` and `trust`.

    Raises:
        InputError: none or several of them are given, or the one can't be used.
    """
    check_one_network(config)
    files = as_list(config.checkpoint)
    if files:
        return network_in(files[0], as_list(config.trust), config.length)
    backbone = pretrained_backbone(config)
    name = str(backbone.get("name", "backbone"))
    return pretrained_network(build(backbone), build(config.pooling), name)


def check_one_network(config: DictConfig) -> None:
    """Raises InputError unless exactly one of checkpoint, model and backbone is given."""
    given = [bool(as_list(config.checkpoint)), bool(config.model), bool(config.backbone)]
    if sum(given) != 1 or len(config.model) > 1:
        raise InputError(
            "give what embeds the images, one of: checkpoint=RUN/checkpoints/best.ckpt (or the "
            ".onnx file of lookalike export), model=mobilenet_v2, or backbone=timm "
            "backbone.name=... backbone.weights=..."
        )
    if config.length is not None and not as_list(config.checkpoint):
        raise InputError(
            f"length={config.length} is for a checkpoint of loss=matryoshka; the first features of "
            "a pretrained network are no better than others."
        )


def network_of_index(config: DictConfig) -> str | dict[str, Any]:
    """The same network as an index keeps it: a file, or the content of a checkpoint."""
    checkpoints = as_list(config.checkpoint)
    if len(checkpoints) > 1:
        raise InputError("an index has one network: give one checkpoint=")
    if checkpoints:
        file = Path(str(checkpoints[0]))
        return str(file) if config.length is None else shortened(weights_alone(file), config.length)
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
