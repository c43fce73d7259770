"""The start of a run: the frozen backbone and epoch 0, measured, and the end beside them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_only

from lookalike.evaluation.callback import FROZEN
from lookalike.evaluation.verdict import Verdict, judge, judged_metrics
from lookalike.inference.checkpoint import Checkpoint
from lookalike.provenance import weights_fingerprint
from lookalike.reports.tables import title
from lookalike.reports.verdicts import sentence
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment

TRY = (
    "Try experiment=adapt, which never ends below its start on the validation images, a tenth of "
    "learning_rate.backbone, freeze=below or all, more images a class, or another loss."
)

FEW = 200  # test queries; with fewer, small differences are hardly ever significant

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Start:
    """What was measured before training.

    scores: by name, of the network at epoch 0 and of the frozen backbone.
    frozen: the frozen backbone's values by metric, of every test query, (Q,).
    untrained: the test images by the network at epoch 0.
    """

    scores: dict[str, float]
    frozen: dict[str, NDArray[np.float64]]
    untrained: Embeddings


def measured_start(experiment: Experiment, prefix: str) -> Start:
    """Validation and test of the weights as they are; they are kept as `experiment.start`.

    One pass over the images measures both: the frozen backbone is the same network without its
    head, pooled features at length 1. That is left out where the plan measures nothing beforehand.

    Args:
        experiment: before its fit.
        prefix: before the names of the scores of the network with its head.
    """
    with experiment.measuring(prefix, with_frozen=experiment.plan.before_training) as measured:
        scores = dict(experiment.validate())
        experiment.trainer.save_checkpoint(experiment.start)
        experiment.trainer.test(experiment.learner, datamodule=experiment.data, verbose=False)
        scores |= measured.scores
        frozen = measured.measured[FROZEN].values if FROZEN in measured.measured else {}
    return Start(scores, frozen, tested(experiment))


def tested(experiment: Experiment) -> Embeddings:
    """The embeddings of the last test, with the fingerprint of the network that made them."""
    state = experiment.learner.embedder.state_dict()
    return replace(experiment.evaluation.tested, fingerprint=weights_fingerprint(state))


def verdicts(experiment: Experiment, start: Start | None) -> list[Verdict]:
    """Of the last test beside the frozen backbone; none if that was not measured."""
    if start is None or not start.frozen:
        return []
    names = judged_metrics(experiment.plan)
    return judge(names, start.frozen, experiment.evaluation.measured[""].values)


@rank_zero_only
def judge_run(
    experiment: Experiment,
    scores: Mapping[str, float],
    best: Checkpoint,
    found: list[Verdict],
) -> None:
    """Say the verdicts, and whether training made the network worse.

    The start is kept if it is better by the validation, and removed otherwise.

    Args:
        experiment: that was tested.
        scores: all of the run.
        best: the checkpoint that was chosen by validation.
        found: the verdicts.
    """
    for verdict in found:
        tell = log.warning if verdict.finding == "worse" else log.info
        tell("%s", sentence(verdict))
    queries = int(scores.get("test/queries", 0))
    undecided = found and found[0].finding == "not significantly different"
    if undecided and best.epochs and queries < FEW:
        log.info(
            "With %d test queries only large differences are significant. The frozen backbone may "
            "be enough, which `lookalike index build` uses untrained; or try experiment=adapt.",
            queries,
        )
    monitored = experiment.plan.monitored
    before, frozen = scores.get(f"epoch_0/{monitored}"), scores.get(f"{FROZEN}{monitored}")
    after = scores[monitored]
    if before is not None and _is_worse(experiment, after, before):
        log.warning(
            "Training made it worse: %s was %.4f before, and is %.4f after epoch %d, the best. The "
            "better network is kept: %s. %s",
            title(monitored), before, after, best.epochs, experiment.start, TRY,
        )  # fmt: skip
        return
    if before is not None:
        experiment.start.unlink(missing_ok=True)
    if frozen is not None and best.epochs and _is_worse(experiment, after, frozen):
        log.warning(
            "The frozen backbone is better: its %s is %.4f without a head, and that of the best "
            "epoch, %d, is %.4f. %s",
            title(monitored), frozen, best.epochs, after, TRY,
        )  # fmt: skip


def _is_worse(experiment: Experiment, after: float, before: float) -> bool:
    return after < before if experiment.plan.mode == "max" else after > before
