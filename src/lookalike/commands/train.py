"""lookalike train: fit, choose by validation, test once; writes a run folder."""

import logging
import os
from pathlib import Path
from time import perf_counter

from omegaconf import DictConfig

from lookalike.checkpoint import read_checkpoint
from lookalike.config import build, check_arguments, run_verb
from lookalike.device import peak_memory
from lookalike.errors import InputError
from lookalike.experiment import Experiment, refitting
from lookalike.reports.callback import publish
from lookalike.reports.finished import FinishedRun
from lookalike.reports.run import (
    print_counts,
    print_outcome,
    print_scores,
    write_metrics,
    write_reports,
)

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float:
    """One run; returns the monitored validation metric of the best checkpoint."""
    started = perf_counter()
    folder = _checked_folder(config)
    experiment = Experiment(config, folder)
    plan = experiment.plan
    reports = build(config.report)  # now: their arguments are checked before any work
    experiment.data.write_split(folder / "split.csv")
    print_counts(experiment.data.counts())
    log.info(experiment.setting())

    scores = experiment.measure("epoch_0/") if plan.before_training else {}
    untrained = experiment.evaluation.tested if plan.before_training else None
    chosen, best = experiment.fit(config.resume)
    fitted, tested = experiment, best
    if plan.refit:
        log.info("refit on training and validation classes together, %d epochs", best.epochs)
        fitted = Experiment(refitting(config, best.epochs), folder / "refit")
        chosen, tested = fitted.fit()
    scores |= best.scores | experiment.test(tested)

    peak = peak_memory()
    facts = {
        "epoch": best.epochs,
        "refit": plan.refit,
        "checkpoint": str(chosen),
        "wall_time_seconds": round(perf_counter() - started, 1),
        "images_per_second": round(experiment.throughput.images_per_second, 1),
        **{f"peak_{what}_mebibytes": most for what, most in peak.items()},
        "training_seconds": round(experiment.throughput.seconds, 1),
        "parameters": sum(p.numel() for p in experiment.learner.embedder.parameters()),
        "setting": experiment.setting(),
        "counts": experiment.data.counts(),
    }
    write_metrics(folder / "metrics.json", scores, facts)
    print_scores(scores, best.epochs, plan.refit)
    print_outcome(facts["images_per_second"], peak, chosen, folder / "metrics.json")
    finished = FinishedRun(
        folder=folder,
        plan=plan,
        epochs=best.epochs,
        records=fitted.data.records,
        embeddings=experiment.evaluation.tested,
        untrained=untrained,
        loss=fitted.loss_of(tested),
    )
    written = write_reports(reports, finished)
    publish(
        experiment.trainer.loggers,
        finished,
        scores | facts,
        {"best": chosen, "last": folder / "checkpoints" / "last.ckpt"},
        written or (),  # nothing on other ranks
    )
    return scores[plan.monitored]


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


if __name__ == "__main__":
    run_verb("train", train)
