"""The scores of settings as Markdown, LaTeX and CSV, and all runs as CSV."""

import csv
from collections.abc import Sequence
from io import StringIO
from math import isnan

from lookalike.evaluation.statistics import Interval
from lookalike.reports.comparison import Setting, interval, shown, value_of
from lookalike.reports.saved import SavedRun

COSTS = ("training_seconds", "images_per_second", "parameters", "peak_memory_mebibytes")
# LaTeX's own characters, the backslash first
SPECIAL = {"\\": r"\textbackslash{}"} | {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip

Rows = list[list[str]]


def scores(settings: Sequence[Setting], metrics: Sequence[str]) -> Rows:
    """A heading, then a line a setting: its values, its runs, its metrics with intervals."""
    keys = list(settings[0].values)
    lines = [[*keys, "runs", *(title(metric) for metric in metrics)]]
    for setting in settings:
        found = [written(interval(setting, metric)) for metric in metrics]
        values = [shown(value) for value in setting.values.values()]
        lines.append([*values, str(len(setting.runs)), *found])
    return lines


def all_runs(runs: Sequence[SavedRun], keys: Sequence[str], metrics: Sequence[str]) -> Rows:
    """A heading, then a line a run, with full precision."""
    names = [*metrics, *COSTS]
    lines = [["folder", *keys, *names]]
    for run in runs:
        values = [shown(value_of(run, key)) for key in keys]
        numbers = [run.number(name) for name in names]
        lines.append([str(run.folder), *values, *("" if n is None else repr(n) for n in numbers)])
    return lines


def written(found: Interval) -> str:
    """0.9123 ± 0.0045, the mean alone where nothing was repeated, nothing where nothing is."""
    if isnan(found.mean):
        return ""
    half = "" if isnan(found.half_width) else f" ± {found.half_width:.4f}"
    return f"{found.mean:.4f}{half}"


def title(metric: str) -> str:
    """test/map_at_r -> test MAP@R."""
    split, _, name = metric.rpartition("/")
    spoken = {"map": "MAP", "map_at_r": "MAP@R", "precision_at_1": "P@1", "minp": "mINP",
              "r_precision": "R-precision", "nmi": "NMI", "ami": "AMI"}  # fmt: skip
    known = spoken.get(name) or name.replace("recall_at_", "recall@").replace("_", " ")
    return f"{split.replace('/', ' ')} {known}".strip()


def markdown(rows: Rows) -> str:
    heading, *lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] * len(heading)
    return "".join(f"| {' | '.join(row)} |\n" for row in (heading, rule, *lines))


def latex(rows: Rows) -> str:
    r"""A tabular for \usepackage{booktabs}."""
    heading, *lines = [" & ".join(_for_latex(cell) for cell in row) + r" \\" for row in rows]
    body = "\n".join((r"\toprule", heading, r"\midrule", *lines, r"\bottomrule"))
    return f"\\begin{{tabular}}{{{'l' * len(rows[0])}}}\n{body}\n\\end{{tabular}}\n"


def comma_separated(rows: Rows) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _for_latex(text: str) -> str:
    return "".join(SPECIAL.get(c, c) for c in text).replace("±", r"$\pm$")
