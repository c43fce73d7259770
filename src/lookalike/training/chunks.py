"""Large batches in chunks: the loss of many images in the memory of a few.

GradCache. Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021, arXiv:2101.06983.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def embed_in_chunks(network: nn.Module, images: Tensor, chunk_size: int | None) -> Tensor:
    """The embeddings of a batch, in training, with the memory of one chunk.

    Only the embeddings are kept. The backward pass takes the gradient of the loss for all of them
    first; then it embeds one chunk after another again, with the same random numbers and number
    formats, and passes the gradient on. These are the gradients of the whole batch, at the price of
    a second forward pass. Losses, miners, gradient scaling and several processes see one batch and
    one backward pass: PyTorch's checkpoint does inside of it what the paper does by hand.

    A batch norm in training mode normalises with the statistics of its chunk; each chunk moves its
    running statistics once.

    Args:
        network: images (B, ...) -> embeddings (B, D).
        images: (B, ...).
        chunk_size: images at once; null for all.
    """
    if chunk_size is None or len(images) <= chunk_size:
        return network(images)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _kept_statistics(network)

    chunks = images.split(chunk_size)
    return torch.cat(
        [checkpoint(network, each, use_reentrant=False, context_fn=contexts) for each in chunks]
    )


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """A context in which batch norm normalises as before and keeps its running statistics."""
    layers = [each for each in network.modules() if isinstance(each, _BatchNorm) and each.training]
    momenta = [each.momentum for each in layers]
    counts = [each.num_batches_tracked for each in layers]
    kept = [None if count is None else count.clone() for count in counts]
    for each in layers:
        each.momentum = 0.0
    try:
        yield
    finally:
        for each, momentum in zip(layers, momenta, strict=True):
            each.momentum = momentum
        for count, value in zip(counts, kept, strict=True):
            if count is not None and value is not None:
                count.copy_(value)
