"""The plan of an evaluation: what is measured, when, and which metric selects the checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from lookalike.device import CPU
from lookalike.errors import InputError, did_you_mean
from lookalike.evaluation.classification import CLASSIFICATION
from lookalike.evaluation.metrics import retrieval_metrics
from lookalike.evaluation.recognition import RECOGNITION, Recognition
from lookalike.retrieval.engines import Engines, Name
from lookalike.retrieval.rerank import NoReranking, Rerank

Direction = Literal["max", "min"]
_CLASSIFIER_DIRECTIONS: dict[str, Direction] = {
    metric.name: "max" if metric.higher_is_better else "min" for metric in CLASSIFICATION
}


@dataclass(frozen=True)
class Evaluation:
    """How a run is measured.

    Args:
        k: from 1 on, for recall@k.
        monitor: the validation metric that selects the checkpoint and is returned to sweepers.
            Its direction belongs to the metric. "accuracy" and "loss" are those of a classifier:
            the loss must have one, and it must be validated on the classes that train.
        whole_ranking: whether MAP is computed. It takes about as long as one exact search of the
            whole gallery; what is nearest alone takes a third of that.
        minp: whether mINP is computed; it needs the whole ranking too.
        map_at: from 1 on, for MAP at so many of the nearest.
        trapezoid: whether MAP by trapezoids and mP@k are computed, as Oxford and Paris are
            measured; they need the whole ranking too.
        recognition: how a class is recognised by its nearest images, for GAP; None leaves it out.
        engine: which engine finds the nearest: "auto", "faiss" or "bounded". Scores are the same.
        clustering: whether NMI and AMI of a k-means clustering are computed.
        rerank: how the first search is re-ranked; its duration is then measured too.
        before_training: whether the starting point (epoch 0) is measured too.
        refit: whether the selected number of epochs is trained again, on the training and
            validation classes together; the test then measures that model.

    Raises:
        InputError: a value is out of range, or the monitored metric is not measured.
    """

    k: Sequence[int] = (1, 2, 4, 8)
    monitor: str = "map_at_r"
    whole_ranking: bool = True
    minp: bool = False
    map_at: Sequence[int] = ()
    trapezoid: bool = False
    recognition: Recognition | None = None
    engine: Name = "auto"
    clustering: bool = False
    rerank: Rerank = field(default_factory=NoReranking)
    before_training: bool = True
    refit: bool = False

    def __post_init__(self) -> None:
        self.engines()
        if not self.k or min(self.k) < 1:
            raise InputError(f"evaluation.k={list(self.k)}: need one or more numbers from 1 on")
        if min(self.map_at, default=1) < 1:
            raise InputError(f"evaluation.map_at={list(self.map_at)}: need numbers from 1 on")
        for name in ("minp", "trapezoid"):
            if getattr(self, name) and not self.whole_ranking:
                raise InputError(f"evaluation.{name}=true needs evaluation.whole_ranking=true")
        if self.monitor not in self.directions():
            names = list(self.directions())
            raise InputError(
                f"evaluation.monitor={self.monitor} is not measured; there are "
                f"{', '.join(names)}.{did_you_mean(self.monitor, names)}"
            )

    def engines(self, device: torch.device = CPU) -> Engines:
        """The engines that find the nearest, on a device."""
        return Engines(self.engine, device)

    @property
    def monitored(self) -> str:
        """The name under which the monitored metric is logged."""
        return f"val/{self.monitor}"

    @property
    def mode(self) -> Direction:
        """Whether the "max" or the "min" of the monitored metric is its best."""
        return self.directions()[self.monitor]

    def directions(self) -> dict[str, Direction]:
        """Whether the "max" or the "min" of each metric is its best."""
        metrics = retrieval_metrics(
            self.k, self.whole_ranking, self.minp, self.map_at, self.trapezoid
        )
        best: dict[str, Direction] = {
            metric.name: "max" if metric.higher_is_better else "min" for metric in metrics
        }
        if self.clustering:
            best |= {"nmi": "max", "ami": "max"}
        if self.recognition:
            best |= dict.fromkeys(RECOGNITION, "max")
        return best | _CLASSIFIER_DIRECTIONS

    @property
    def monitors_classifier(self) -> bool:
        """Whether the monitored metric is that of a loss with a classifier."""
        return self.monitor in _CLASSIFIER_DIRECTIONS
