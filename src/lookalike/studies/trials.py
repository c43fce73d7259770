"""The trials of a search for hyper-parameters, as a table and as a file."""

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from lookalike.files import write_text
from lookalike.reports.tables import Table, comma_separated, print_table
from lookalike.studies.tuning import done, outcome, ranked, reason, shown

SHOWN = 10  # trials in the table


def print_trials(study: optuna.Study) -> None:
    """The best, and the default wherever it stands."""
    best = ranked(study)
    default = study.trials[0].number
    lines = [trial for place, trial in enumerate(best) if place < SHOWN or trial.number == default]
    others = [trial for trial in done(study) if trial not in best]
    failed = [f"trial {trial.number} failed: {reason(trial)}" for trial in others if reason(trial)]
    print_table(
        Table(
            ["trial", "values", "validation", "minutes"],
            [_line(trial, trial.number == default) for trial in lines],
            names=2,
            notes=[f"{len(best)} trials, {len(others)} more were pruned or failed", *failed],
        )
    )


def write_trials(file: Path, study: optuna.Study) -> None:
    """CSV of every trial that ended: its values in full, and its score on each fold."""
    trials = done(study)
    keys = list(trials[0].params)
    head = ["trial", *keys, "outcome", "score", "folds", "seconds", "error"]
    table = Table(head, [_in_full(trial, keys) for trial in trials])
    write_text(file, comma_separated(table))


def _line(trial: FrozenTrial, is_default: bool) -> list[str]:
    """Of the table on the terminal."""
    name = f"{trial.number}, the default" if is_default else str(trial.number)
    minutes = f"{trial.user_attrs['seconds'] / 60:.1f}"
    return [name, shown(trial.params), outcome(trial), minutes]


def _in_full(trial: FrozenTrial, keys: list[str]) -> list[str]:
    """Of the file; what a trial has not is empty."""
    about = trial.user_attrs
    scores = " ".join(map(str, about.get("scores", [])))
    values = [trial.params[key] for key in keys]
    cells = [trial.number, *values, trial.state.name.lower(), trial.value, scores]
    cells += [about.get("seconds"), about.get("error")]
    return ["" if cell is None else str(cell) for cell in cells]
