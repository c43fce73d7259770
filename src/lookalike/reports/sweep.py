"""The table at the end of a multirun of `train`: what was swept, best first by validation."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

REPEATED = ("seed=", "data.fold=")  # overrides that repeat a row instead of making one
NOTES = (
    "± is the 95 % t-interval over seeds, each the mean of its folds. ≈ is not told apart from the "
    "best: paired t-test over seeds, Holm-corrected for all pairs, p > 0.05. Choose by the "
    "validation score; the test score is for the report.",
)


class SummariseSweep(Callback):
    """Prints the table of a sweep's finished runs, and writes it to summary.md in its folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from lookalike.reports.cell_table import compared, markdown, print_comparison

        folder = Path(config.hydra.sweep.dir)
        rows, metrics = rows_of(folder)
        if rows:
            lines = compared(rows, metrics)
            print_comparison(lines, NOTES)
            (folder / "summary.md").write_text(markdown(lines, NOTES), encoding="utf-8")
            print(folder / "summary.md")


def rows_of(folder: Path) -> tuple[list[Any], list[str]]:
    """A row for each set of overrides that differ between the runs in a folder, and its metrics."""
    from lookalike.reports.cell_table import Row

    runs = []
    monitors = set()
    for file in sorted(folder.glob("*/metrics.json")):
        config: Any = OmegaConf.load(file.parent / ".hydra" / "config.yaml")
        overrides: Any = OmegaConf.load(file.parent / ".hydra" / "overrides.yaml")
        runs.append((config, list(overrides), json.loads(file.read_text(encoding="utf-8"))))
        monitors.add(config.evaluation.monitor)
    if not runs:
        return [], []
    shared = Counter(override for _, overrides, _ in runs for override in overrides)
    results = defaultdict(dict)
    for config, overrides, result in runs:
        own = [
            override
            for override in overrides
            if shared[override] < len(runs) and not override.startswith(REPEATED)
        ]
        results[" ".join(own)][config.seed, config.data.fold] = result
    metrics = [f"{part}/{name}" for part in ("val", "test") for name in sorted(monitors)]
    return [Row(label, found) for label, found in results.items()], metrics
