"""Gradient checkpointing: what is inside of a block is computed again when its gradient is needed.

Chen et al., 2016, arXiv:1604.06174. Training then keeps the outputs of the blocks only: less memory
for a second forward pass. Gradients are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def recomputed(network: nn.Module, blocks: Sequence[str]) -> Iterator[None]:
    """Within this context, a network keeps of these blocks only what comes out of them.

    Args:
        network: whose structure and names stay as they are.
        blocks: dotted names of modules inside of it.
    """
    modules = [network.get_submodule(name) for name in blocks]
    for module in modules:
        module.forward = _checkpointed(module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward  # the one of its class is left


def _checkpointed(module: nn.Module) -> Callable[..., Any]:
    from torch.utils.checkpoint import checkpoint  # imports much that only this needs

    contexts = lambda: (nullcontext(), _same_statistics(module))  # noqa: E731 - of the two passes
    return partial(checkpoint, module.forward, use_reentrant=False, context_fn=contexts)


@contextmanager
def _same_statistics(module: nn.Module) -> Iterator[None]:
    """Forgets what a pass adds to running statistics: batch norm has counted this batch before.

    It gets copies in the meantime. Without statistics it would save other tensors for its gradient
    than in the first pass, which torch refuses.
    """
    norms = [each for each in module.modules() if isinstance(each, _NormBase)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers |= {k: None if v is None else v.clone() for k, v in buffers.items()}
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers |= buffers
