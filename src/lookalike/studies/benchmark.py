"""The results of a benchmark: how far it is, and the table of what is finished."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from lookalike.errors import InputError
from lookalike.reports.cell_table import (
    Row,
    compared,
    csv_rows,
    latex,
    markdown,
    print_comparison,
)
from lookalike.studies.cells import Benchmark, Published
from lookalike.studies.runs import Run, State


def summary(runs: Sequence[Run], states: Sequence[State]) -> str:
    """What is done, running, failed and left, and the time that the rest will take."""
    counts = Counter(states)
    text = ", ".join(f"{counts[state]} {state}" for state in get_args(State))
    seconds = defaultdict(list)  # of finished runs by row
    for run in runs:
        if result := run.result():
            seconds[run.label].append(result["wall_time_seconds"])
    lines = [f"{len(runs)} runs: {text}"]
    if seconds and len(runs) > counts["done"]:
        usual = mean(mean(each) for each in seconds.values())
        rest = sum(
            mean(seconds.get(run.label, [usual]))
            for run, state in zip(runs, states, strict=True)
            if state != "done"
        )
        lines.append(f"about {rest / 60:.0f} minutes for the rest, one after another")
    for run, state in zip(runs, states, strict=True):
        if state in ("running", "failed"):
            file = run.folder / ("error.txt" if state == "failed" else "train.log")
            lines.append(f"{state}: {run.label}, fold {run.fold}, seed {run.seed}: {file}")
    return "\n".join(lines)


def write_results(spec: Benchmark, runs: Sequence[Run], folder: Path, command: str) -> None:
    """results.md, results.csv, results.tex, runs.csv, and the table on the screen.

    Raises:
        InputError: no run is finished.
    """
    finished = [(run, result) for run in runs if (result := run.result())]
    if not finished:
        raise InputError(f"no run is finished; what went wrong is in {folder}/cells/*/error.txt")
    metrics = [f"test/{name}" for name in spec.metrics]
    lines = compared(_rows(spec, finished), metrics, spec.reference)
    notes = [*_notes(spec, runs, [result for _, result in finished]), f"Command: {command}"]
    (folder / "results.md").write_text(markdown(lines, notes), encoding="utf-8")
    (folder / "results.tex").write_text(latex(lines, notes), encoding="utf-8")
    _write_csv(folder / "results.csv", csv_rows(lines))
    _write_csv(
        folder / "runs.csv",
        [
            {"cell": run.label, "fold": run.fold, "seed": run.seed}
            | {metric: result[metric] for metric in metrics}
            | {"seconds": result["wall_time_seconds"], "folder": run.folder.name}
            for run, result in finished
        ],
    )
    print_comparison(lines, notes)
    print(folder / "results.md")


def _rows(spec: Benchmark, finished: Sequence[tuple[Run, dict[str, Any]]]) -> list[Row]:
    results = defaultdict(dict)
    for run, result in finished:
        results[run.label, run.trained][run.seed, run.fold] = result
    papers = {paper.cell: paper for paper in spec.papers()}
    return [
        Row(label, found, trained, {"published": _published(papers.get(label))} if papers else {})
        for (label, trained), found in results.items()
    ]


def _published(paper: Published | None) -> str:
    if paper is None:
        return ""
    values = ", ".join(f"{value:.4f} {_spoken(name)}" for name, value in paper.values.items())
    return values if paper.same_protocol else f"{values} †"


def _notes(spec: Benchmark, runs: Sequence[Run], results: list[dict[str, Any]]) -> list[str]:
    """What is needed to judge the table."""
    seeds, folds = len(spec.seeds), len(spec.folds)
    against = "the best" if spec.reference is None else spec.reference
    pairs = "all pairs" if spec.reference is None else "the pairs with it"
    averaged = f", each the mean of {folds} folds" if folds > 1 else ""
    notes = [
        f"Test scores; ± is the 95 % t-interval over {seeds} seeds{averaged}. ≈ is not told apart "
        f"from {against}: paired t-test over seeds, Holm-corrected for {pairs}, p > 0.05.",
    ]
    if missing := len(runs) - len(results):
        notes.append(f"{missing} of {len(runs)} runs are missing; intervals and tests are without.")
    for paper in spec.papers():
        differs = "" if paper.same_protocol else "† another protocol: "
        notes.append(f"Published, {paper.cell}: {paper.source}; {differs}{paper.protocol}.")
    hours = sum(result["wall_time_seconds"] for result in results) / 3600
    notes.append(f"{len(results)} runs, {hours:.2f} hours of computing.")
    notes += _distinct(f"{each['hardware']}; {each['setting']}" for each in results)
    versions = (", ".join(f"{k} {v}" for k, v in each["versions"].items()) for each in results)
    notes += _distinct(versions)
    commits = (f"commit {each['git_commit']}" for each in results if each["git_commit"])
    return [*notes, *_distinct(commits)]


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _spoken(metric: str) -> str:
    return metric.replace("_", " ")


def _write_csv(file: Path, rows: list[dict[str, Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
