"""An exported network in int8, and what that costs: recall measured beside float32's."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from lookalike.data.images import Batch, Transform
from lookalike.data.measuring import MeasuredImages
from lookalike.data.records import Records
from lookalike.device import CPU
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.scoring import measure
from lookalike.inference.export import described, with_notes
from lookalike.inference.network import Network
from lookalike.models.exported import KEY, ExportedNetwork
from lookalike.models.quantising import quantised_dynamic, quantised_static
from lookalike.retrieval.embeddings import Embeddings, embed

CALIBRATION = 128  # images, from which the ranges of activations are taken
BATCH = 32
PLAN = Evaluation(k=(1,), monitor="recall_at_1", whole_ranking=False)


@dataclass(frozen=True)
class Cost:
    """What int8 keeps of float32.

    kind: "static" or "dynamic".
    images: that were measured.
    recall: at 1, in int8; None where the images have no classes.
    recall_in_float32: the same in float32.
    cosine: mean similarity of an image's vectors in int8 and in float32.
    """

    kind: str
    images: int
    recall: float | None
    recall_in_float32: float | None
    cosine: float

    def __str__(self) -> str:
        similarity = f"mean cosine similarity to float32 {self.cosine:.3f}"
        if self.recall is None or self.recall_in_float32 is None:
            return f"{similarity} on {self.images} images without classes"
        change = self.recall - self.recall_in_float32
        return (
            f"recall@1 {self.recall:.3f}, {self.recall_in_float32:.3f} in float32 ({change:+.3f}), "
            f"on {self.images} images; {similarity}"
        )


@dataclass(frozen=True)
class Measuring:
    """How images are embedded to compare two networks.

    view: of the network.
    num_workers: reading processes.
    """

    view: Transform
    num_workers: int | None

    def batches(self, records: Records, size: int = BATCH) -> list[Tensor]:
        """All images in their view, uint8 (B, 3, H, W) each."""
        return [batch.images for batch in self._loader(records, size)]

    def embeddings(self, compute: Callable[[Tensor], Tensor], records: Records) -> Embeddings:
        """All images as vectors of length 1."""
        return embed(compute, self._loader(records, BATCH), CPU)

    def _loader(self, records: Records, size: int) -> DataLoader[Batch]:
        images = MeasuredImages(records, {"test": self.view}, size, self.num_workers)
        return images.loader(records.every_id)


def in_int8(
    network: Network, content: bytes, choosing: Records, testing: Records, num_workers: int | None
) -> tuple[bytes, Cost]:
    """The better of static and dynamic quantisation.

    Args:
        network: that was exported.
        content: of its .onnx file in float32.
        choosing: images that calibrate the static one and choose between both.
        testing: other images, on which the choice is measured.
        num_workers: reading processes.

    Returns:
        The content of the .onnx file in int8, and what it costs.
    """
    measuring = Measuring(network.view, num_workers)
    calibration = measuring.batches(spread(choosing, CALIBRATION))
    candidates = {
        "static": quantised_static(content, calibration),
        "dynamic": quantised_dynamic(content),
    }
    costs = {
        kind: _cost(kind, candidate, content, choosing, measuring)
        for kind, candidate in candidates.items()
    }
    best = max(costs, key=lambda kind: (costs[kind].recall or 0.0, costs[kind].cosine))
    cost = _cost(best, candidates[best], content, testing, measuring)
    return _named(network, candidates[best], cost), cost


def spread(records: Records, most: int) -> Records:
    """At most so many of the images, evenly spread over all."""
    rows = np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(np.int64)
    return records.at(rows)


def _cost(
    kind: str, candidate: bytes, content: bytes, records: Records, measuring: Measuring
) -> Cost:
    found, expected = (
        measuring.embeddings(ExportedNetwork(each, kind), records) for each in (candidate, content)
    )
    recall, in_float32 = (_recall(each, records) for each in (found, expected))
    cosine = float((found.vectors * expected.vectors).sum(1).mean())
    return Cost(kind, len(records), recall, in_float32, cosine)


def _recall(embeddings: Embeddings, records: Records) -> float | None:
    if records.num_classes < 2:
        return None
    return measure(PLAN, embeddings, embeddings, records).scores["recall_at_1"]


def _named(network: Network, candidate: bytes, cost: Cost) -> bytes:
    """With its notes, and a fingerprint of its own: its vectors differ from float32's."""
    shape = ExportedNetwork(candidate, "int8").image_shape
    notes = described(network, "int8", shape) | {"cost": asdict(cost)}
    notes["fingerprint"] = sha256(candidate).hexdigest()[:16]
    return with_notes(candidate, {KEY: json.dumps(notes)})
