"""One run: fit, choose by validation, test once; it leaves a run folder."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from lookalike.config import build, check_arguments
from lookalike.errors import InputError
from lookalike.evaluation.verdict import Verdict
from lookalike.inference.checkpoint import Checkpoint, read_checkpoint
from lookalike.memory import keep_freed_memory, peak_memory, watch_peak
from lookalike.reports.finished import FinishedRun, Report
from lookalike.reports.loggers import publish
from lookalike.reports.saved import QUERY_VALUES
from lookalike.reports.scores import print_counts, print_outcome, print_scores, write_metrics
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.experiment import Experiment, refitting
from lookalike.training.resume import (
    Resumed,
    carry_over,
    check_resumed,
    earlier_rows,
    find,
    mark,
    newest,
)
from lookalike.training.start import judge_run, measured_start, tested, verdicts
from lookalike.training.wise_ft import Mixture, chosen_mixture, mixed, start_of
from lookalike.values import check_kinds, check_ranges

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float:
    """Fit, choose the best checkpoint by validation, test it, and write the run folder.

    With `trainer.max_epochs=0`, or where nothing learns, the network is measured as it is.

    Args:
        config: of `lookalike train`, as `lookalike.compose("train", ...)` gives it.

    Returns:
        The monitored validation metric of the best checkpoint.

    Raises:
        InputError: something in the configuration, the data or the folder does not fit.
    """
    keep_freed_memory()  # a launcher's process, or a program of the user's, begins here
    watch_peak()
    folder = _checked_folder(config)
    resumed = _resumed(config)
    mark(config)
    experiment = Experiment(config, folder)
    reports = build(config.report)  # now: their arguments are checked before any work
    _announce(experiment)
    if resumed:
        _go_on(experiment, resumed)
    outcome = _trained(experiment, resumed) if _trains(experiment) else _measured(experiment)
    facts = _facts(experiment, outcome)
    facts["wall_time_seconds"] = round(experiment.throughput.wall_seconds(), 1)
    _finish(experiment, outcome, facts, reports)
    judge_run(experiment, outcome.scores, outcome.fitted.best, outcome.verdicts)
    return outcome.scores[experiment.plan.monitored]


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What was trained and measured.

    scores: by name, of the start, the validation and the test.
    fitted: the checkpoints.
    verdicts: on the test beside the frozen backbone's.
    untrained: the test images before training; null if that was not measured.
    """

    scores: dict[str, float]
    fitted: "_Fitted"
    verdicts: list[Verdict]
    untrained: Embeddings | None = None


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What the fit, or the refit after it, left.

    best: of the fit, chosen by validation.
    chosen: the checkpoint that is tested: the best, or the refit's last.
    owner: the experiment that `chosen` is of.
    mixture: of the weights before and after training; null if nothing was trained.
    """

    best: Checkpoint
    chosen: Checkpoint
    owner: Experiment
    mixture: Mixture | None = None


def _checked_folder(config: DictConfig) -> Path:
    """The run's folder; what can be found wrong before any work is done is found here."""
    check_arguments(config)
    check_ranges(config)
    check_kinds(config)
    folder = Path(os.path.relpath(config.paths.run))  # short enough to be copied
    if (folder / "metrics.json").exists():
        raise InputError(
            f"{folder} holds a finished run, which is kept. Choose another hydra.run.dir."
        )
    if not config.data.holdout:
        raise InputError(
            "without a validation part nothing can choose the checkpoint. Leave data.holdout=true; "
            "evaluation.refit=true trains on everything once the epochs are chosen."
        )
    return folder


def _resumed(config: DictConfig) -> Resumed | None:
    """The training that goes on, checked; null for one that begins."""
    if config.resume.path is None:
        return None
    resumed = find(config.resume.path, Path(config.paths.outputs))
    check_resumed(config, resumed)
    return resumed


@rank_zero_only
def _go_on(experiment: Experiment, resumed: Resumed) -> None:
    """Bring along what is known of the training, and say where it goes on."""
    carry_over(resumed, experiment.folder)
    experiment.begin_curve(earlier_rows(resumed))
    checkpoint = resumed.checkpoint
    inside = f" and {checkpoint.batches} batches" if checkpoint.batches else ""
    log.info(
        "resumed after %d epochs%s, from %s; written to %s",
        checkpoint.epochs, inside, checkpoint.file, experiment.folder,
    )  # fmt: skip


@rank_zero_only
def _announce(experiment: Experiment) -> None:
    experiment.folder.mkdir(parents=True, exist_ok=True)
    experiment.data.write_split(experiment.folder / "split.csv")
    print_counts(experiment.data.counts())
    log.info(experiment.setting())
    for line in experiment.learner.description():
        log.info(line)


def _trains(experiment: Experiment) -> bool:
    if experiment.config.trainer.max_epochs == 0:
        return False
    if not experiment.learner.learns:
        log.warning(
            "Nothing learns: the backbone is frozen, and neither head nor loss has parameters. The "
            "network is measured as it is; to train, set freeze=none, head=linear or loss=softmax."
        )
        return False
    return True


def _measured(experiment: Experiment) -> _Outcome:
    """The network as it is."""
    start = measured_start(experiment, "")
    kept = read_checkpoint(experiment.start)
    fitted = _Fitted(kept, kept, experiment)
    return _Outcome(start.scores, fitted, verdicts(experiment, start))


def _trained(experiment: Experiment, resumed: Resumed | None) -> _Outcome:
    """The network before training, where the plan says so, and the best one after it."""
    before = experiment.plan.before_training
    start = measured_start(experiment, "epoch_0/") if before else None
    fitted = _fit(experiment, resumed)
    scores = (start.scores if start else {}) | fitted.best.scores | experiment.test(fitted.chosen)
    untrained = start.untrained if start else None
    return _Outcome(scores, fitted, verdicts(experiment, start), untrained)


def _fit(experiment: Experiment, resumed: Resumed | None) -> _Fitted:
    """Train; where the plan says so, once more on training and validation classes together."""
    config, wise_ft = experiment.config, build(experiment.config.ensemble)
    start = start_of(experiment.learner.embedder)
    best = experiment.fit(str(resumed.checkpoint.file) if resumed else None)
    mixture = chosen_mixture(experiment, wise_ft, start, best)
    best = mixture.checkpoint
    if not experiment.plan.refit:
        return _Fitted(best, best, experiment, mixture)
    _keep_first_fit(experiment, best)
    log.info("refit on training and validation classes together, %d epochs", best.epochs)
    again = Experiment(refitting(config, best.epochs), experiment.folder / "refit")
    start = start_of(again.learner.embedder)
    last = again.fit(_begun(again) if resumed else None)
    return _Fitted(best, mixed(again, start, last, mixture.alpha), again, mixture)


def _begun(refit: Experiment) -> str | None:
    """The checkpoint of a refit of as many epochs that was cut off."""
    file = newest(refit.folder)
    if file is None:
        return None
    planned = read_checkpoint(file).config["trainer"]["max_epochs"]
    if planned != refit.config.trainer.max_epochs:
        return None
    refit.begin_curve(earlier_rows(Resumed(read_checkpoint(file), refit.folder)))
    return str(file)


@rank_zero_only
def _keep_first_fit(experiment: Experiment, best: Checkpoint) -> None:
    """first_fit.json: what is known before the refit, which may fail or be cut off."""
    facts = {"epoch": best.epochs, "checkpoint": str(best.file), "setting": experiment.setting()}
    write_metrics(experiment.folder / "first_fit.json", best.scores, facts)


def _facts(experiment: Experiment, outcome: _Outcome) -> dict[str, Any]:
    """What is needed to judge the scores."""
    fitted, throughput, found = outcome.fitted, experiment.throughput, outcome.verdicts
    training = {
        "refit": experiment.plan.refit,
        "images_per_second": round(throughput.images_per_second, 1),
        "training_seconds": round(throughput.seconds, 1),
    }
    mixture = fitted.mixture
    return {
        "epoch": fitted.best.epochs,
        "checkpoint": str(fitted.chosen.file),
        **(training if throughput.images else {}),
        **{f"peak_{what}_mebibytes": most for what, most in peak_memory().items()},
        "parameters": sum(p.numel() for p in experiment.learner.embedder.parameters()),
        "setting": experiment.setting(),
        "counts": experiment.data.counts(),
        **({"alpha": mixture.alpha, "alphas": mixture.tried} if mixture and mixture.tried else {}),
        **({"verdict": {each.metric: each.facts() for each in found}} if found else {}),
    }


@rank_zero_only
def _finish(
    experiment: Experiment,
    outcome: _Outcome,
    facts: Mapping[str, Any],
    reports: Mapping[str, Report],
) -> None:
    """Write and print the scores, have the reports written, and tell the loggers."""
    folder, fitted = experiment.folder, outcome.fitted
    print_scores(outcome.scores, fitted.best.epochs, facts.get("refit", False))
    experiment.evaluation.measured[""].save(folder / QUERY_VALUES)  # later: the disk may be full
    write_metrics(folder / "metrics.json", outcome.scores, facts)
    print_outcome(facts, folder / "metrics.json")
    run = FinishedRun(
        folder=folder,
        plan=experiment.plan,
        epochs=fitted.best.epochs,
        records=fitted.owner.data.records,
        embeddings=tested(experiment),
        untrained=outcome.untrained,
        loss=fitted.owner.loss_of(fitted.chosen),
    )
    written = [file for report in reports.values() for file in report.write(run)]
    for file in written:
        print(file)
    told = {**outcome.scores, **facts}
    publish(experiment.trainer.loggers, run, told, fitted.chosen.file, written)
