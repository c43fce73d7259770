"""WiSE-FT: the weights between those before and those after training.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv:2109.01903, section 3:
(1 - alpha) x start + alpha x trained, for every weight. Differs: alpha is chosen by the
validation images, as the best or as the smallest that is not significantly worse, where the
authors take 0.5 if nothing can choose. Running statistics of batch norm are interpolated like
weights.
"""

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from lookalike.errors import InputError
from lookalike.evaluation.scoring import Measured
from lookalike.evaluation.statistics import CONFIDENCE, paired_bootstrap, sign_flips
from lookalike.evaluation.verdict import judged_metrics
from lookalike.inference.checkpoint import (
    KEY,
    Checkpoint,
    read_checkpoint,
    weights_alone,
    write_content,
)
from lookalike.models.adapter import ResidualAdapter
from lookalike.models.embedder import Embedder
from lookalike.reports.tables import title
from lookalike.training.experiment import Experiment

State = Mapping[str, Tensor]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WiseFT:
    """Which mixtures are tried, and when one is taken.

    Args:
        alphas: shares of the trained weights, in [0, 1]. [1] leaves the trained weights as they
            are; with 0 the run ends with its start where nothing is better by validation.
        significantly: whether the smallest share is taken that is not significantly worse than the
            best one, see `smallest_share`.

    Raises:
        InputError: there is no share, or one lies outside of [0, 1].
    """

    alphas: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)
    significantly: bool = False

    def __post_init__(self) -> None:
        if not self.alphas or not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise InputError(
                f"ensemble.alphas={list(self.alphas)}: need one or more numbers from 0 to 1, such "
                "as [0,0.5,1]."
            )
        if self.significantly and self.mixes and 0 not in self.alphas:
            raise InputError("ensemble.significantly=true compares with 0: add it to alphas.")

    @property
    def mixes(self) -> bool:
        """Whether anything but the trained weights is tried."""
        return list(self.alphas) != [1]


@dataclass(frozen=True)
class Mixture:
    """What was chosen.

    checkpoint: a plain one, of the mixed network.
    alpha: share of the trained weights.
    tried: the monitored validation score by alpha.
    """

    checkpoint: Checkpoint
    alpha: float
    tried: dict[float, float] = field(default_factory=dict)


def start_of(embedder: Embedder) -> dict[str, Tensor]:
    """A copy on the CPU of the weights before training.

    With an adapter they are those of the frozen features, also if training begins elsewhere.
    """
    copied = deepcopy(embedder).cpu()
    if isinstance(copied.head, ResidualAdapter):
        copied.head.add_nothing()
    return copied.state_dict()


def interpolated(start: State, trained: State, alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) x start + alpha x trained; exactly one of them at alpha 0 and 1.

    Whole numbers (counts of batches) are those of the nearer end.

    >>> interpolated({"w": torch.zeros(2)}, {"w": torch.ones(2)}, alpha=0.25)
    {'w': tensor([0.2500, 0.2500])}
    """
    return {
        name: torch.lerp(start[name], value, alpha)
        if value.is_floating_point()
        else (value if alpha >= 0.5 else start[name])
        for name, value in trained.items()
    }


def chosen_mixture(
    experiment: Experiment, wise_ft: WiseFT, start: State, best: Checkpoint
) -> Mixture:
    """The mixture that validates best, and of equal ones that nearest to the start.

    Args:
        experiment: after its fit.
        wise_ft: what is tried.
        start: the embedder's weights before training.
        best: the trained checkpoint, which has its validation scores.
    """
    if not wise_ft.mixes:
        return Mixture(best, 1.0)
    plan, values = experiment.plan, {}
    scores = {}
    for alpha in sorted(set(wise_ft.alphas)):
        scores[alpha] = _measured(experiment, start, best, alpha)
        values[alpha] = experiment.evaluation.measured[""]
    scores |= {1: best.scores} if 1 in scores else {}  # measured by the same network
    tried = {alpha: found[plan.monitored] for alpha, found in scores.items()}
    alpha = (max if plan.mode == "max" else min)(tried, key=lambda each: tried[each])
    log.info(
        "WiSE-FT: %s by the share of trained weights: %s; the best: %g",
        title(plan.monitored),
        ", ".join(f"{each:g}: {score:.4f}" for each, score in tried.items()), alpha,
    )  # fmt: skip
    if wise_ft.significantly:
        alpha = _share_taken(experiment, values, alpha)
    checkpoint = mixed(experiment, start, replace(best, scores=scores[alpha]), alpha)
    return Mixture(checkpoint, alpha, tried)


def p_of_gain(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    classes: NDArray[np.int64],
    unseen: bool,
) -> float:
    """The p-value of the difference between two networks' values of the same queries, (Q,) each.

    It answers for the queries of the test. Where those are of other classes than the training, as
    in the validation, the classes are the sample: a test of sign flips over their mean differences,
    for which two or three classes are never enough. Else the queries are: a paired bootstrap.

    Args:
        before: NaN for queries without a relevant item.
        after: NaN for the same.
        classes: of the queries.
        unseen: whether the classes don't train.
    """
    if not unseen:
        return paired_bootstrap(after, before).p
    gains, defined = after - before, ~np.isnan(before)
    names = np.unique(classes[defined])
    return sign_flips(np.array([gains[defined & (classes == name)].mean() for name in names]))


def smallest_share(
    values: Mapping[float, NDArray[np.float64]],
    best: float,
    classes: NDArray[np.int64],
    unseen: bool,
) -> tuple[float, float]:
    """The smallest share that is not significantly worse than the best, and that p-value.

    The fewer weights change, the more of the start is kept on images of other kinds, and a gain
    that may be chance is no reason to change them. A share whose mean is below that of the first
    one, the start, is never taken.

    Args:
        values: by share, of every query, (Q,), as in `p_of_gain`.
        best: the share with the best mean.
        classes: of the queries.
        unseen: whether the classes don't train.
    """
    start = np.nanmean(values[min(values)])
    for share in sorted(each for each in values if each < best):
        p = p_of_gain(values[share], values[best], classes, unseen)
        if p >= 1 - CONFIDENCE and np.nanmean(values[share]) >= start:
            return share, p
    return best, 1.0


def _share_taken(experiment: Experiment, measured: Mapping[float, Measured], best: float) -> float:
    records, metric = experiment.data.records, judged_metrics(experiment.plan)[0]
    classes = records.labels[measured[best].ids]
    unseen = not np.isin(classes, experiment.data.training_classes).any()
    values = {share: each.values[metric] for share, each in measured.items()}
    share, p = smallest_share(values, best, classes, unseen)
    what = f"{len(np.unique(classes))} validation classes" if unseen else "validation queries"
    if share != best:
        log.info(
            "WiSE-FT: %s, as what %g gains in %s beyond it is not significant over %s (p = %.2g).",
            f"{share:g} is taken" if share else "the start is kept", best, title(metric), what, p,
        )  # fmt: skip
    return share


def mixed(experiment: Experiment, start: State, trained: Checkpoint, alpha: float) -> Checkpoint:
    """The checkpoint with interpolated weights, beside the trained one, or that itself at alpha 1.

    Args:
        experiment: of the trained checkpoint.
        start: the embedder's weights before training.
        trained: as it was saved; with the scores that the mixture shall have.
        alpha: share of the trained weights.
    """
    if alpha == 1:
        return trained
    file = trained.file.with_name("mixed.ckpt")
    _write(file, trained, interpolated(start, trained.part("embedder"), alpha))
    experiment.trainer.strategy.barrier()
    return read_checkpoint(file)


def _measured(
    experiment: Experiment, start: State, best: Checkpoint, alpha: float
) -> dict[str, float]:
    learner, prefix = experiment.learner, f"alpha_{alpha:g}/"
    learner.embedder.load_state_dict(interpolated(start, best.part("embedder"), alpha))
    learner.loss.load_state_dict(best.part("loss"))
    with experiment.measuring(prefix):  # curves have only what the training measured
        found = experiment.validate()
    return {name.removeprefix(prefix): value for name, value in found.items()}


@rank_zero_only
def _write(file: Path, trained: Checkpoint, embedder: State) -> None:
    content = weights_alone(trained.file)
    content["state_dict"] |= {f"embedder.{name}": value for name, value in embedder.items()}
    content[KEY] = content[KEY] | {"scores": dict(trained.scores)}
    write_content(file, content)
