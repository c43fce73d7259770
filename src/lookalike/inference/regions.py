"""Why two images are near each other: the regions that match in the backbone's feature map.

Every position of one map is compared with every position of the other, as in DELF's matching of
local features (Noh et al., ICCV 2017), without its attention and geometry.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from lookalike.data.decoding import as_image
from lookalike.inference.embedder import ImageEmbedder
from lookalike.models.embedder import Embedder

FINEST = 12  # positions of a map along a side; larger maps are averaged
PAIRS = 5  # regions that are listed


@dataclass(frozen=True)
class Regions:
    """Which positions of two images match.

    shape: rows and columns of both maps.
    similarity: (P, P), cosine of each position of the query with each of the hit, row by row.
    pairs: positions (query, hit) that are each other's nearest; those that add most come first.
    views: what the network sees of both images; the maps cover them.
    """

    shape: tuple[int, int]
    similarity: NDArray[np.float32]
    pairs: list[tuple[int, int]]
    views: tuple[Image.Image, Image.Image]


@torch.inference_mode()
def matching_regions(embed: ImageEmbedder, query: Tensor, hit: Tensor) -> Regions | None:
    """The regions of two images that match; None for a network without a feature map.

    Args:
        embed: the network and its preprocessing.
        query: uint8 (3, h, w).
        hit: likewise.
    """
    if not isinstance(embed.embedder, Embedder):  # an exported one has no inside
        return None
    views = _one_view(embed.transform([query, hit]))  # (2, 3, H, W)
    device = next(embed.embedder.parameters()).device
    maps = embed.embedder.feature_map(views.to(device))
    if maps.ndim != 4:
        return None
    maps = _coarse(maps.float()).cpu()
    flat = maps.flatten(2).transpose(1, 2)  # (2, P, C)
    products = flat[0] @ flat[1].T  # (P, P)
    similarity = normalize(flat[0], dim=1) @ normalize(flat[1], dim=1).T
    pairs = _mutual(similarity, products)
    pictures = as_image(views[0]), as_image(views[1])
    return Regions((maps.shape[2], maps.shape[3]), similarity.numpy(), pairs, pictures)


def _one_view(views: Tensor) -> Tensor:
    """The first of several views of each image."""
    return views[:, 0] if views.ndim == 5 else views


def _coarse(maps: Tensor) -> Tensor:
    height, width = (min(side, FINEST) for side in maps.shape[2:])
    return adaptive_avg_pool2d(maps, (height, width))


def _mutual(similarity: Tensor, products: Tensor) -> list[tuple[int, int]]:
    """Positions that are each other's nearest. Those of large features count more in a mean."""
    nearest, back = similarity.argmax(1), similarity.argmax(0)
    found = [(q, int(h)) for q, h in enumerate(nearest) if int(back[h]) == q]
    ordered = sorted(found, key=lambda pair: -float(products[pair]))
    return ordered[:PAIRS]
