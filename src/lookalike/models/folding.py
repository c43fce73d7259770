"""Batch norm folded into the convolutions before it: the same function, read once from memory."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

from torch import nn
from torch.fx import symbolic_trace
from torch.fx.experimental.optimization import matches_module_pattern
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

PATTERN = (nn.Conv2d, nn.BatchNorm2d)


def foldable(network: nn.Module) -> list[tuple[str, str]]:
    """The names of each convolution whose only reader is a batch norm, and of that batch norm.

    An empty list for a network that torch.fx can't trace, as its forward pass depends on what it
    sees.

    Args:
        network: in evaluation mode.
    """
    try:
        traced = symbolic_trace(network)
    except TraceError:
        return []
    modules: dict[str, nn.Module] = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes)
    pairs = []
    for node in traced.graph.nodes:
        if matches_module_pattern(PATTERN, node, modules):
            convolution = node.args[0]
            once = calls[convolution.target] == calls[node.target] == len(convolution.users) == 1
            if once and modules[node.target].track_running_stats:
                pairs.append((convolution.target, node.target))
    return pairs


def fold_batch_norm(network: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Change a network so that it gives, to float32's rounding, what it gave, sooner.

    Unlike torch.fx's `fuse` it does not trace the network that it changes: that leaves a cycle,
    which keeps the weights until Python's garbage collector comes by.

    Args:
        network: in evaluation mode, in float32: folded weights lose more when they are rounded to
            bfloat16 than those of convolution and batch norm do apart.
        pairs: as `foldable` names them.
    """
    for convolution, batch_norm in pairs:
        folded = fuse_conv_bn_eval(
            cast(nn.Conv2d, network.get_submodule(convolution)),
            cast(nn.BatchNorm2d, network.get_submodule(batch_norm)),
        )
        network.set_submodule(convolution, folded)
        network.set_submodule(batch_norm, nn.Identity())
