"""Parameter groups of the optimiser: what learns, at which rate, and whether its weights decay.

Layer-wise learning-rate decay is BEiT's (Bao et al., ICLR 2022, arXiv:2106.08254) as timm has it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from lookalike.models.blocks import block_numbers
from lookalike.models.embedder import Embedder

LAYER_DECAY = "layer_decay"  # beside the learning rates


def parameter_groups(
    embedder: Embedder, loss: nn.Module, rates: Mapping[str, float], decay_norms: bool = True
) -> list[dict[str, Any]]:
    """What learns, now or later, grouped by learning rate.

    Groups have the "name" of their rate. Those of one name lie in order of their rates.

    Args:
        embedder: its backbone, and its pooling and head.
        loss: its proxies or classifier.
        rates: of the "backbone", of what of it is "thawed" later, of the "head" (pooling and head)
            and of the "loss". With a "layer_decay" below 1, the last block of the backbone learns
            at the backbone's rate, and each block before it at that share of the next one's.
        decay_norms: whether weight decay applies to norms and biases, too: to parameters of fewer
            than two dimensions, and to those that a network of timm excepts, such as a position
            embedding.
    """
    groups: dict[tuple[str, int, bool], dict[str, Any]] = {}
    blocks = _blocks(embedder.backbone) if rates.get(LAYER_DECAY, 1.0) != 1 else {}
    kept = set() if decay_norms else set(_not_decayed(embedder, loss))
    learning = _learning(embedder, loss)
    last = max(blocks.values(), default=0)
    for name, parameters in learning.items():
        for parameter in parameters:
            block = blocks.get(id(parameter), last)
            key = (name, block, id(parameter) in kept)
            groups.setdefault(key, _group(key, last, rates))["params"].append(parameter)
    order = list(learning)
    return [groups[key] for key in sorted(groups, key=lambda key: (order.index(key[0]), *key[1:]))]


def _group(key: tuple[str, int, bool], last: int, rates: Mapping[str, float]) -> dict[str, Any]:
    name, block, is_kept = key
    rate = rates[name] * rates.get(LAYER_DECAY, 1.0) ** (last - block)
    return {"params": [], "lr": rate, "name": name} | ({"weight_decay": 0.0} if is_kept else {})


def _learning(embedder: Embedder, loss: nn.Module) -> dict[str, list[nn.Parameter]]:
    """What learns, now or later, by the name of its learning rate."""
    modules = {
        "backbone": [embedder.backbone],
        "head": [embedder.pooling, embedder.head],
        "loss": [loss],
    }
    learning = {
        name: [p for part in parts for p in part.parameters() if p.requires_grad]
        for name, parts in modules.items()
    }
    return learning | {"thawed": embedder.freeze.thawing(embedder.backbone)}


def _blocks(backbone: nn.Module) -> dict[int, int]:
    numbers = block_numbers(backbone)
    return {id(parameter): numbers[name] for name, parameter in backbone.named_parameters()}


def _not_decayed(*modules: nn.Module) -> Iterator[int]:
    for module in modules:
        for parameter in module.parameters():
            if parameter.ndim < 2:
                yield id(parameter)
        for part in module.modules():
            names: Any = getattr(part, "no_weight_decay", None)
            if names is not None:
                yield from (id(part.get_parameter(name)) for name in names() if _has(part, name))


def _has(module: nn.Module, name: str) -> bool:
    """Whether a network has a parameter that its kind may have."""
    return name in dict(module.named_parameters())
