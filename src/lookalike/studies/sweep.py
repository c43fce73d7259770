"""The table at the end of a multirun of `train`: what was swept, best first by validation."""

import atexit
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

NOTES = (
    "± is the 95 % t-interval over seeds, each the mean of its folds. ≈ is not told apart from the "
    "best: paired t-test over seeds, Holm-corrected for all pairs, p > 0.05. Choose by the "
    "validation score; the test score is for the report.",
)


class SummariseSweep(Callback):
    """Prints the table of a sweep's finished runs, and writes it to summary.md in its folder.

    It does so however the sweep ends: Hydra gives up before `on_multirun_end` if a run failed.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.register(summarise, Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.unregister(summarise)
        summarise(Path(config.hydra.sweep.dir))


def summarise(folder: Path) -> None:
    """Print the table of the finished runs in `folder`, if there are any; write summary.md."""
    # here, because every run of `train` imports this module as it starts
    from lookalike.reports.cell_table import Row, compared, markdown, print_comparison
    from lookalike.reports.comparison import FOLD, SEED, differing, monitored, settings
    from lookalike.reports.saved import FINISHED, find_runs
    from lookalike.training.identity import compared as as_compared

    if not any(folder.glob(f"*/{FINISHED}")):
        return
    runs = as_compared(find_runs(folder))
    rows = [
        Row(
            setting.label or "every run",
            {(run.config[SEED], run.config[FOLD]): run.metrics for run in setting.runs},
        )
        for setting in settings(runs, differing(runs))
    ]
    lines = compared(rows, [f"{part}/{monitored(runs)}" for part in ("val", "test")])
    print_comparison(lines, NOTES)
    (folder / "summary.md").write_text(markdown(lines, NOTES), encoding="utf-8")
    print(folder / "summary.md")
