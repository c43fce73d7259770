"""The trials of a search: kept in a journal, so that a search that was cut off goes on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from lookalike.config import build
from lookalike.errors import InputError
from lookalike.interruption import Interrupted
from lookalike.memory import is_out_of_memory
from lookalike.studies.journal import mend_journal
from lookalike.studies.space import Tuning, overrides_of
from lookalike.training.experiment import Experiment
from lookalike.training.identity import fingerprint

Compose = Callable[[Sequence[str]], DictConfig]  # overrides of `train` -> its configuration
FEWEST = 4  # trials on a fold before any is pruned for being below their median
STARTUP = 5  # trials with values drawn at random, before others are proposed from their scores
ATTEMPTS = 3  # at the same values, if the process is killed each time
NAME = "lookalike"  # of the study in the journal
BY_USER = "interrupted"  # of a trial that a signal cut off, which says nothing of its values

log = logging.getLogger(__name__)


def tuned(tuning: Tuning, compose: Compose, folder: Path) -> optuna.Study:
    """The study in `folder` with all its trials, those that are missing done now.

    Trials are proposed by TPE (Watanabe, arXiv:2304.11127) and pruned after a fold on which their
    mean is below the median (Golovin et al., "Google Vizier", KDD 2017). No test image is read.

    Args:
        tuning: what is searched.
        compose: configurations of `train` from overrides.
        folder: with study.journal, or for it.

    Raises:
        InputError: the folder has a search with another setting, or the default lies outside the
            space.
    """
    config = compose([])
    study = _open(tuning, config, folder)
    _check_same(study, tuning, config, folder)
    _repeat_interrupted(study)
    if not study.trials:
        study.enqueue_trial(tuning.defaults(config))
    while len(done(study)) < tuning.trials:
        trial = study.ask(tuning.distributions())
        try:
            value, state = _try(trial, tuning, compose)
        except Interrupted as stop:
            trial.set_user_attr(BY_USER, True)
            stop.advice = f"{len(done(study))} of {tuning.trials} trials are done."
            raise
        log.info(_line(study, study.tell(trial, value, state)))
    return study


def done(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ended, in order: complete, pruned, or failed by themselves."""
    return [
        trial
        for trial in study.trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "error" in trial.user_attrs
    ]


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    best_is_highest = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return sorted(complete, key=lambda trial: trial.value or 0.0, reverse=best_is_highest)


def best_score(config: DictConfig) -> float:
    """The monitored validation score of the best epoch of one fit, of which nothing is kept."""
    with TemporaryDirectory() as folder:
        experiment = Experiment(config, Path(folder))
        return experiment.fit().scores[experiment.plan.monitored]


def outcome(trial: FrozenTrial) -> str:
    """Its score, or what became of it."""
    if trial.state == TrialState.COMPLETE:
        return f"{trial.value:.4f}"
    after = len(trial.user_attrs.get("scores", []))
    return f"pruned after {after}" if trial.state == TrialState.PRUNED else "failed"


def reason(trial: FrozenTrial) -> str:
    """Why it failed, in a line; empty for a trial that did not."""
    return next(iter(str(trial.user_attrs.get("error", "")).splitlines()), "")


def shown(params: Mapping[str, Any]) -> str:
    """Keys and values for people, numbers with three digits that count."""
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in params.items()
    )


def _open(tuning: Tuning, config: DictConfig, folder: Path) -> optuna.Study:
    """The study in the journal of a folder, begun there if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    mend_journal(folder / "study.journal")
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    known = {each.study_name: each for each in optuna.get_all_study_summaries(storage)}
    begun = known[NAME].n_trials if NAME in known else 0
    return optuna.create_study(
        storage=storage,
        study_name=NAME,
        load_if_exists=True,
        direction="maximize" if build(config.evaluation).mode == "max" else "minimize",
        # another seed after an interruption, or the same values would be proposed again
        sampler=optuna.samplers.TPESampler(seed=tuning.seed + begun, n_startup_trials=STARTUP),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FEWEST),
    )


def _check_same(study: optuna.Study, tuning: Tuning, config: DictConfig, folder: Path) -> None:
    """Trials of different settings can't be compared; only their number may grow."""
    space = {key: dict(given) for key, given in tuning.space.items()}
    setting = [fingerprint(config), space, list(tuning.folds), tuning.seed]
    if study.user_attrs.setdefault("setting", setting) != setting:
        raise InputError(
            f"{folder} holds a search with another setting, whose trials can't be compared with "
            "these. Give this one a name of its own: name=<another>."
        )
    study.set_user_attr("setting", setting)


def _repeat_interrupted(study: optuna.Study) -> None:
    """What a killed process left running is done again, with the same values.

    But not for ever: the values may be what ends the process, by taking all memory.
    """
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if _times_cut_off(study, trial.params) < ATTEMPTS:
            study.enqueue_trial(trial.params)
        else:
            log.warning("%s was cut off %d times and is left out", shown(trial.params), ATTEMPTS)


def _times_cut_off(study: optuna.Study, params: Mapping[str, Any]) -> int:
    return sum(
        trial.params == params and not {"error", BY_USER} & set(trial.user_attrs)
        for trial in study.get_trials(states=(TrialState.FAIL,))
    )


def _try(
    trial: optuna.Trial, tuning: Tuning, compose: Compose
) -> tuple[float | None, TrialState | None]:
    """(value, state) as `study.tell` wants them; null takes a complete trial.

    A trial fails by values with which training diverges or needs too much memory.
    """
    try:
        return _validate(trial, tuning, compose), None
    except optuna.TrialPruned:
        return None, TrialState.PRUNED
    except (ValueError, ArithmeticError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        trial.set_user_attr("error", str(error) or type(error).__name__)
        return None, TrialState.FAIL


def _validate(trial: optuna.Trial, tuning: Tuning, compose: Compose) -> float:
    """The mean over folds of the best validation score; what is done is kept in the trial.

    Raises:
        optuna.TrialPruned: the trial is behind others on the folds done so far.
    """
    started = perf_counter()
    scores = []
    for fold in tuning.folds:
        own = [*overrides_of(trial.params), f"data.fold={fold}", f"seed={tuning.seed}"]
        scores.append(best_score(compose(own)))
        trial.set_user_attr("scores", scores)
        trial.set_user_attr("seconds", round(perf_counter() - started, 1))
        trial.report(mean(scores), len(scores))
        if len(scores) < len(tuning.folds) and trial.should_prune():
            raise optuna.TrialPruned
    return mean(scores)


def _line(study: optuna.Study, trial: FrozenTrial) -> str:
    """Of the log."""
    best = ranked(study)
    so_far = f"; best {best[0].value:.4f} by trial {best[0].number}" if best else ""
    why = f" ({reason(trial)})" if reason(trial) else ""
    return f"trial {trial.number}: {outcome(trial)}{why}, {shown(trial.params)}{so_far}"
