"""Batch norm folded into the convolution before it: the same function with less memory traffic."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

from torch import nn
from torch.fx import Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import type_before_parametrizations


def foldable(network: nn.Module) -> list[tuple[str, str]]:
    """The pairs of a convolution and a batch norm that can be folded into one layer.

    Args:
        network: in evaluation mode.

    Returns:
        The names of a Conv2d and of the BatchNorm2d that alone uses its output. The list is empty
        if torch.fx can't trace the network, because its forward pass depends on its input.
    """
    try:
        traced = symbolic_trace(network)
    except Exception:  # an optimisation never ends a run, whatever the network does
        return []
    modules: dict[str, nn.Module] = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes)
    pairs = []
    for node in traced.graph.nodes:
        convolution = _convolution_before(node, modules)
        if convolution is None:
            continue
        once = calls[convolution.target] == calls[node.target] == len(convolution.users) == 1
        if once and modules[node.target].track_running_stats:
            pairs.append((str(convolution.target), node.target))
    return pairs


def _convolution_before(node: Node, modules: dict[str, nn.Module]) -> Node | None:
    """The call of a Conv2d whose output a call of a BatchNorm2d takes; None for other nodes."""
    before = node.args[0] if node.args else None
    if not isinstance(before, Node) or not node.op == before.op == "call_module":
        return None
    types = [type_before_parametrizations(modules[str(each.target)]) for each in (before, node)]
    return before if types == [nn.Conv2d, nn.BatchNorm2d] else None


def fold_batch_norm(network: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Make a network faster; its output stays the same up to float32 rounding.

    torch.fx's `fuse` traces the network that it changes. This leaves a reference cycle, which
    holds the weights in memory until Python's garbage collector runs; so it is not used here.

    Args:
        network: in evaluation mode and float32, changed in place. In bfloat16, folded weights lose
            more to rounding than those of separate layers.
        pairs: names of convolution and batch norm, from `foldable`.
    """
    for convolution, batch_norm in pairs:
        folded = fuse_conv_bn_eval(
            cast(nn.Conv2d, network.get_submodule(convolution)),
            cast(nn.BatchNorm2d, network.get_submodule(batch_norm)),
        )
        network.set_submodule(convolution, folded)
        network.set_submodule(batch_norm, nn.Identity())
