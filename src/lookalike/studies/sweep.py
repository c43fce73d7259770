"""The table at the end of a multirun of `train`: what was swept, best first by validation."""

import atexit
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lookalike.command_line import command

if TYPE_CHECKING:
    from lookalike.reports.tables import Table

NOTE = "Choose by the validation score; the test score is for the report."


class SummariseSweep(Callback):
    """Prints the table of a sweep's finished runs, and writes it to summary.md in its folder.

    It does so however the sweep ends: Hydra stops before `on_multirun_end` if a run failed.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it before the first job."""
        atexit.register(summarise, Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it after the last job, if none failed."""
        atexit.unregister(summarise)
        summarise(Path(config.hydra.sweep.dir))


def summarise(folder: Path) -> None:
    """Print the table of the finished runs in `folder`, if there are any; write summary.md."""
    # here, because every run of `train` imports this module as it starts
    from lookalike.files import write_text
    from lookalike.reports.saved import FINISHED
    from lookalike.reports.tables import markdown, print_table

    if not any(folder.glob(f"*/{FINISHED}")):
        return
    table = sweep_table(folder)
    print_table(table)
    write_text(folder / "summary.md", markdown(table))
    print(folder / "summary.md")
    print("\nNext:", command("report", f"runs={folder}"))


def sweep_table(folder: Path) -> "Table":
    """A line a setting, with the validation and the test score of the monitored metric.

    Raises:
        InputError: no run in `folder` is finished.
    """
    from lookalike.reports.cell_table import explained, score_table
    from lookalike.reports.cells import best_first, compare
    from lookalike.reports.comparison import differing, monitored, settings
    from lookalike.reports.saved import find_runs
    from lookalike.training.identity import compared

    runs = compared(find_runs(folder))
    metrics = [f"{part}/{monitored(runs)}" for part in ("val", "test")]
    lines = best_first(compare(settings(runs, differing(runs)), metrics), metrics)
    return score_table(lines, [*explained(lines), NOTE])
