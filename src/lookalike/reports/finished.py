"""What a finished run tells its reports, and what a report is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from lookalike.data.records import Records
from lookalike.evaluation.plan import Evaluation
from lookalike.retrieval.embeddings import Embeddings


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run after its test.

    Args:
        folder: the run's, with metrics.csv and checkpoints/; reports are written there.
        plan: what was measured, and which score chose.
        epochs: trained until the chosen checkpoint.
        records: of all images, with the splits that the tested network was trained on.
        embeddings: of the test images, in order of id, by the tested network.
        untrained: the same by the network before training, null if that was not measured.
        loss: as it was trained, in evaluation mode on the CPU; a classifier or proxies live in it.
    """

    folder: Path
    plan: Evaluation
    epochs: int
    records: Records
    embeddings: Embeddings
    untrained: Embeddings | None
    loss: nn.Module


class Report(Protocol):
    """Something that a run leaves for people, made when it is over."""

    def write(self, run: FinishedRun) -> list[Path]:
        """Write files into the run's folder; their paths."""
        ...
