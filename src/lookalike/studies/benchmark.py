"""The results of a benchmark: how far it is, and the table of what is finished."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from lookalike.errors import InputError
from lookalike.files import write_text
from lookalike.reports.cell_table import explained, number_table, run_table, score_table
from lookalike.reports.cells import Line, Setting, best_first, compare
from lookalike.reports.saved import SavedRun, read_run
from lookalike.reports.tables import comma_separated, latex, markdown, print_table, title
from lookalike.studies.cells import Benchmark, Published
from lookalike.studies.runs import Run, State

OTHER_PROTOCOL = "†"


def summary(runs: Sequence[Run], states: Sequence[State]) -> str:
    """What is done, running, failed and left, and the time that the rest will take.

    Args:
        runs: all of a benchmark.
        states: one a run.
    """
    counts = Counter(states)
    text = ", ".join(f"{counts[state]} {state}" for state in get_args(State))
    lines = [f"{len(runs)} runs: {text}"]
    if rest := _seconds_left(runs, states):
        lines.append(f"about {rest / 60:.0f} minutes for the rest, one after another")
    for run, state in zip(runs, states, strict=True):
        if state in ("running", "failed"):
            file = run.folder / ("error.txt" if state == "failed" else "train.log")
            lines.append(f"{state}: {run.label}, fold {run.fold}, seed {run.seed}: {file}")
    return "\n".join(lines)


def write_results(spec: Benchmark, runs: Sequence[Run], folder: Path, command: str) -> None:
    """results.md, results.csv, results.tex, runs.csv, and the table on the screen.

    Args:
        spec: the benchmark.
        runs: all of it; those that are finished are in the tables.
        folder: for the files.
        command: printed below the table.

    Raises:
        InputError: no run is finished.
    """
    finished = [(run, read_run(run.folder)) for run in runs if run.result() is not None]
    if not finished:
        raise InputError(f"no run is finished; what went wrong is in {folder}/cells/*/error.txt")
    metrics = [f"test/{name}" for name in spec.metrics]
    lines = best_first(compare(_settings(spec, finished), metrics, spec.reference), metrics)
    saved = [read for _, read in finished]
    notes = [
        "Test scores.",
        *explained(lines, spec.reference),
        *_on_missing(len(runs) - len(saved), len(runs)),
        *_on_papers(spec.papers()),
        *_on_origin(saved),
        f"Command: {command}",
    ]
    for name, text in _files(lines, notes).items():
        write_text(folder / name, text)
    print_table(score_table(lines, notes))
    print(folder / "results.md")


def _files(lines: Sequence[Line], notes: Sequence[str]) -> dict[str, str]:
    """Tables by file name."""
    table = score_table(lines, notes)
    runs = run_table([line.setting for line in lines], list(lines[0].scores))
    return {
        "results.md": markdown(table),
        "results.tex": latex(table),
        "results.csv": comma_separated(number_table(lines)),
        "runs.csv": comma_separated(runs),
    }


def _settings(spec: Benchmark, finished: Sequence[tuple[Run, SavedRun]]) -> list[Setting]:
    """The rows of the table, with what papers say of them."""
    together: dict[str, list[SavedRun]] = defaultdict(list)
    for run, saved in finished:
        together[run.label].append(saved)
    papers = {paper.cell: paper for paper in spec.papers()}
    return [
        Setting({}, tuple(saved), label, _beside(papers, label))
        for label, saved in together.items()
    ]


def _beside(papers: dict[str, Published], label: str) -> dict[str, str]:
    """The column of published values; there is none if no cell has any."""
    return {"published": _published(papers.get(label))} if papers else {}


def _published(paper: Published | None) -> str:
    if paper is None:
        return ""
    values = ", ".join(f"{value:.4f} {title(name)}" for name, value in paper.values.items())
    return values if paper.same_protocol else f"{values} {OTHER_PROTOCOL}"


def _seconds_left(runs: Sequence[Run], states: Sequence[State]) -> float:
    """From the means of finished runs, row by row; 0 if none is finished or all are."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if result := run.result():
            seconds[run.label].append(result["wall_time_seconds"])
    if not seconds:
        return 0.0
    usual = mean(mean(each) for each in seconds.values())
    pairs = zip(runs, states, strict=True)
    return sum(mean(seconds.get(run.label, [usual])) for run, state in pairs if state != "done")


def _on_missing(missing: int, planned: int) -> list[str]:
    if not missing:
        return []
    return [f"{missing} of {planned} runs are missing; intervals and tests are without."]


def _on_papers(papers: Sequence[Published]) -> list[str]:
    """Where published values come from, and where a protocol is another than ours."""
    notes = []
    for paper in papers:
        differs = "" if paper.same_protocol else f"{OTHER_PROTOCOL} another protocol: "
        notes.append(f"Published, {paper.cell}: {paper.source}; {differs}{paper.protocol}.")
    return notes


def _on_origin(saved: Sequence[SavedRun]) -> list[str]:
    """Cost, hardware, versions and commits: what stands beside a number."""
    results = [run.metrics for run in saved]
    hours = sum(result["wall_time_seconds"] for result in results) / 3600
    return [
        f"{len(results)} runs, {hours:.2f} hours of computing.",
        *_distinct(f"{each['hardware']}; {each['setting']}" for each in results),
        *_distinct(_versions(each["versions"]) for each in results),
        *_distinct(f"commit {each['git_commit']}" for each in results if each["git_commit"]),
    ]


def _versions(versions: dict[str, Any]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
