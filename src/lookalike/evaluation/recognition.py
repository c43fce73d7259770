"""Recognition by neighbours: which class a query shows, how surely, and whether it shows any.

The protocol of the Met dataset, Ypsilantis et al., NeurIPS 2021, arXiv:2202.01747. Queries without
a relevant item are distractors, for which any answer is wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lookalike.errors import InputError
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.retrieval.neighbours import Gallery
from lookalike.retrieval.relevance import rows_of

RECOGNITION = ("gap", "gap_without_distractors", "recognition_accuracy")
Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Recognition:
    """A classifier by the nearest gallery images of a query.

    A class has the similarity of its nearest image, at least 0; the confidence in it is its softmax
    over all classes of the gallery, where those that are not among the nearest have similarity 0.

    Args:
        neighbours: how many images take part; the authors choose it on their validation queries.
        temperature: by which similarities are multiplied; with one neighbour it changes nothing.
    """

    neighbours: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.temperature <= 0:
            raise InputError("evaluation.recognition needs neighbours >= 1 and temperature > 0")

    def columns(
        self, queries: Embeddings, gallery: Embeddings, known: NDArray[np.bool_], engines: Engines
    ) -> Columns:
        """By query, (Q,): the confidence, as odds; whether the class is right; whether it is known.

        Args:
            queries: to be recognised.
            gallery: of known classes.
            known: (Q,), whether the gallery has the query's class.
            engines: that find the nearest.
        """
        blocks = list(Gallery(gallery, engines).search(queries, self.neighbours))
        if not blocks:  # a rank may have no queries
            return dict.fromkeys(("confidence", "right", "known"), np.zeros(0))
        scores = np.concatenate([block.scores for block in blocks])  # (Q, K)
        ids = np.concatenate([block.ids for block in blocks])
        labels = gallery.labels[rows_of(ids.ravel(), gallery.ids)].reshape(ids.shape)
        found, confidence = self._answers(scores, labels, len(np.unique(gallery.labels)))
        right = (found == queries.labels) & known
        columns = {"right": right.astype(np.float64), "known": known.astype(np.float64)}
        return {"confidence": confidence, **columns}

    def _answers(
        self, scores: NDArray[np.float32], labels: NDArray[np.int64], classes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The class of the nearest image, (Q,), and the logarithm of its odds, (Q,), which ranks as
        the confidence does, and does not round to 1.

        Args:
            scores: (Q, K), descending, minus infinity where there are fewer.
            labels: (Q, K).
            classes: in the gallery.
        """
        rows = np.arange(len(labels))[:, None]
        order = np.argsort(labels, axis=1, kind="stable")  # a class is a run, its nearest first
        similarity = scores[rows, order].astype(np.float64)
        counted = np.diff(labels[rows, order], axis=1, prepend=-1) != 0
        counted &= np.isfinite(similarity)
        similarity = similarity.clip(min=0)
        others = classes - counted.sum(axis=1)
        counted &= labels[rows, order] != labels[:, :1]
        top = scores[:, :1].astype(np.float64).clip(min=0)
        exponents = np.concatenate([similarity, np.zeros_like(top)], axis=1) - top
        weights = np.concatenate([counted, others[:, None]], axis=1)
        odds = -logsumexp(self.temperature * exponents, axis=1, b=weights)
        return labels[:, 0], np.asarray(odds, np.float64)


def recognition_scores(columns: Columns) -> dict[str, float]:
    """GAP with and without distractors, and the share of known queries that are recognised.

    GAP: all answers are ranked by confidence; the precision at each right one is summed, and
    divided by the number of known queries. Of equal confidences the wrong ones come first.
    """
    known = columns["known"] > 0
    alone = {name: column[known] for name, column in columns.items()}
    return {
        "gap": _global_average_precision(columns),
        "gap_without_distractors": _global_average_precision(alone),
        "recognition_accuracy": float(alone["right"].mean()) if known.any() else float("nan"),
    }


def _global_average_precision(columns: Columns) -> float:
    right = columns["right"][np.lexsort((columns["right"], -columns["confidence"]))]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float((precision * right).sum() / max(1, columns["known"].sum()))
