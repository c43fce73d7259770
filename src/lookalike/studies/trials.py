"""The trials of a search for hyper-parameters, as a table and as a file."""

import csv
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table

from lookalike.studies.tuning import done, outcome, ranked, shown

SHOWN = 10


def print_trials(study: optuna.Study) -> None:
    """The best, and the default wherever it stands."""
    best = ranked(study)
    default = study.trials[0]
    rows = best[:SHOWN] + [trial for trial in best[SHOWN:] if trial.number == default.number]
    table = Table("trial", "values", "validation", "minutes")
    for trial in rows:
        minutes = f"{trial.user_attrs['seconds'] / 60:.1f}"
        name = f"{trial.number}, the default" if trial.number == default.number else trial.number
        table.add_row(str(name), shown(trial.params), outcome(trial), minutes)
    console = Console()
    console.print(table)
    given_up = len(done(study)) - len(best)
    console.print(f"{len(best)} trials, {given_up} more were given up or failed")


def write_trials(file: Path, study: optuna.Study) -> None:
    """Every trial that ended, with its values in full and its score on each fold."""
    trials = done(study)
    keys = list(trials[0].params)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", *keys, "outcome", "score", "folds", "seconds", "error"])
        for trial in trials:
            scores = trial.user_attrs.get("scores", [])
            about = trial.user_attrs
            writer.writerow(
                [
                    trial.number,
                    *(trial.params[key] for key in keys),
                    trial.state.name.lower(),
                    trial.value,
                    " ".join(map(str, scores)),
                    about.get("seconds"),
                    about.get("error"),
                ]
            )
