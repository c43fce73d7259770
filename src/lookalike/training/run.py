"""One run: fit, choose by validation, test once; it leaves a run folder."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from lookalike.config import build, check_arguments
from lookalike.device import peak_memory
from lookalike.errors import InputError
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.provenance import weights_fingerprint
from lookalike.reports.finished import FinishedRun, Report
from lookalike.reports.loggers import publish
from lookalike.reports.scores import print_counts, print_outcome, print_scores, write_metrics
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment, refitting

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float:
    """Fit, choose the best checkpoint by validation, test it, and write the run folder.

    Args:
        config: of `lookalike train`, as `lookalike.compose("train", ...)` gives it.

    Returns:
        The monitored validation metric of the best checkpoint.

    Raises:
        InputError: something in the configuration, the data or the folder does not fit.
    """
    started = perf_counter()
    folder = _checked_folder(config)
    experiment = Experiment(config, folder)
    reports = build(config.report)  # now: their arguments are checked before any work
    _announce(experiment)
    before = experiment.measure("epoch_0/") if experiment.plan.before_training else {}
    untrained = _tested(experiment) if experiment.plan.before_training else None
    fitted = _fit(experiment)
    scores = before | fitted.best.scores | experiment.test(fitted.chosen)
    facts = _facts(experiment, fitted) | {"wall_time_seconds": round(perf_counter() - started, 1)}
    _finish(experiment, fitted, untrained, scores, facts, reports)
    return scores[experiment.plan.monitored]


def measure_start(config: DictConfig) -> float:
    """Scores of the weights before any training, into metrics.json.

    Returns:
        The monitored validation metric.
    """
    started = perf_counter()
    folder = Path(config.paths.run)
    experiment = Experiment(config, folder)
    scores = experiment.measure("")
    facts = {
        "epoch": 0,
        "wall_time_seconds": round(perf_counter() - started, 1),
        "setting": experiment.setting(),
        "counts": experiment.data.counts(),
    }
    write_metrics(folder / "metrics.json", scores, facts)
    print_scores(scores, 0, refit=False)
    return scores[experiment.plan.monitored]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What the fit, or the refit after it, left.

    best: of the fit, chosen by validation.
    chosen: the checkpoint that is tested: the best, or the refit's last.
    owner: the experiment that `chosen` is of.
    """

    best: Checkpoint
    chosen: Checkpoint
    owner: Experiment


def _checked_folder(config: DictConfig) -> Path:
    """The run's folder; what can be found wrong before any work is done is found here."""
    check_arguments(config)
    folder = Path(os.path.relpath(config.paths.run))  # short enough to be copied
    if (folder / "metrics.json").exists():
        raise InputError(
            f"{folder} holds a finished run, which is kept. Choose another hydra.run.dir."
        )
    if config.resume is not None:
        read_checkpoint(config.resume)
    if not config.data.holdout:
        raise InputError(
            "without a validation part nothing can choose the checkpoint. Leave data.holdout=true; "
            "evaluation.refit=true trains on everything once the epochs are chosen."
        )
    return folder


@rank_zero_only
def _announce(experiment: Experiment) -> None:
    experiment.folder.mkdir(parents=True, exist_ok=True)
    experiment.data.write_split(experiment.folder / "split.csv")
    print_counts(experiment.data.counts())
    log.info(experiment.setting())


def _fit(experiment: Experiment) -> _Fitted:
    """Train; where the plan says so, once more on training and validation classes together."""
    config = experiment.config
    best = experiment.fit(config.resume)
    if not experiment.plan.refit:
        return _Fitted(best, best, experiment)
    _keep_first_fit(experiment, best)
    log.info("refit on training and validation classes together, %d epochs", best.epochs)
    again = Experiment(refitting(config, best.epochs), experiment.folder / "refit")
    return _Fitted(best, again.fit(), again)


@rank_zero_only
def _keep_first_fit(experiment: Experiment, best: Checkpoint) -> None:
    """first_fit.json: what is known before the refit, which may fail or be cut off."""
    facts = {"epoch": best.epochs, "checkpoint": str(best.file), "setting": experiment.setting()}
    write_metrics(experiment.folder / "first_fit.json", best.scores, facts)


def _tested(experiment: Experiment) -> Embeddings:
    """The embeddings of the last test, with the fingerprint of the network that made them."""
    state = experiment.learner.embedder.state_dict()
    return replace(experiment.evaluation.tested, fingerprint=weights_fingerprint(state))


def _facts(experiment: Experiment, fitted: _Fitted) -> dict[str, Any]:
    """What is needed to judge the scores."""
    throughput = experiment.throughput
    return {
        "epoch": fitted.best.epochs,
        "refit": experiment.plan.refit,
        "checkpoint": str(fitted.chosen.file),
        "images_per_second": round(throughput.images_per_second, 1),
        **{f"peak_{what}_mebibytes": most for what, most in peak_memory().items()},
        "training_seconds": round(throughput.seconds, 1),
        "parameters": sum(p.numel() for p in experiment.learner.embedder.parameters()),
        "setting": experiment.setting(),
        "counts": experiment.data.counts(),
    }


@rank_zero_only
def _finish(
    experiment: Experiment,
    fitted: _Fitted,
    untrained: Embeddings | None,
    scores: Mapping[str, float],
    facts: Mapping[str, Any],
    reports: Mapping[str, Report],
) -> None:
    """Write and print the scores, have the reports written, and tell the loggers."""
    folder, epochs = experiment.folder, fitted.best.epochs
    write_metrics(folder / "metrics.json", scores, facts)
    print_scores(scores, epochs, experiment.plan.refit)
    print_outcome(facts, folder / "metrics.json")
    run = FinishedRun(
        folder=folder,
        plan=experiment.plan,
        epochs=epochs,
        records=fitted.owner.data.records,
        embeddings=_tested(experiment),
        untrained=untrained,
        loss=fitted.owner.loss_of(fitted.chosen),
    )
    written = [file for report in reports.values() for file in report.write(run)]
    for file in written:
        print(file)
    checkpoints = {"best": fitted.chosen.file, "last": folder / "checkpoints" / "last.ckpt"}
    publish(experiment.trainer.loggers, run, {**scores, **facts}, checkpoints, written)
