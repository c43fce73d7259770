"""Run folders read back: what `lookalike train` left, for reports on one run or on a thousand."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from os import walk
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import InputError
from lookalike.notebook import beside, captioned, paragraph, table, thumbnail
from lookalike.reports.curves import Curve, read_curves
from lookalike.reports.tables import title

FINISHED = "metrics.json"
QUERY_VALUES = "queries.npz"  # of the test: ids, and by the name of a metric its values
WIDE = 320  # pixels of a picture of a run, in a notebook
SEED, FOLD = "seed", "data.fold"
REPETITIONS = (SEED, FOLD)  # runs that differ in nothing else repeat one setting
# parsing by libyaml, where PyYAML has it, is ten times faster
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A finished run.

    Args:
        folder: its own, with metrics.json.
        metrics: everything in metrics.json; scores under names such as "test/recall_at_1".
        choices: what was chosen of each group of the configuration, such as loss: "triplet".
        config: its scalars under dotted names, as composed; interpolations are left as written.
        curves: by name, such as "val/map_at_r"; empty if nothing was trained.
    """

    folder: Path
    metrics: dict[str, Any]
    choices: dict[str, Any]
    config: dict[str, Any]
    curves: dict[str, Curve]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def seed(self) -> Any:
        """Null where its configuration is lost, as the fold is."""
        return self.config.get(SEED)

    @property
    def fold(self) -> Any:
        """Of the classes that validate."""
        return self.config.get(FOLD)

    @property
    def trained(self) -> bool:
        """Whether it is more than a starting point that was measured."""
        return self.config.get("trainer.max_epochs") != 0 and self.metrics.get("epoch") != 0

    def _repr_html_(self) -> str:
        scores = {n: v for n in self.metrics if n.startswith("test/") and (v := self.number(n))}
        before = [self.number(f"epoch_0/{name}") for name in scores]
        lines = [
            [title(name.removeprefix("test/")), _short(start), _short(score)]
            for (name, score), start in zip(scores.items(), before, strict=True)
        ]
        pictures = [
            captioned(thumbnail(Image.open(file), file.name, WIDE), [file.name], WIDE)
            for file in sorted(self.folder.glob("*.png"))
        ]
        return (
            paragraph(self.name, bold=True)
            + table(["test", "before training", f"epoch {self.metrics.get('epoch')}"], lines)
            + beside(pictures)
        )

    def number(self, name: str) -> float | None:
        """A number of metrics.json, or None where there is none."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) else None

    def query_values(self, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """The ids of the test's queries, and a metric of each, (Q,); None where that is not kept.

        Raises:
            InputError: the file is damaged.
        """
        name = metric.removeprefix("test/")
        file = self.folder / QUERY_VALUES
        if not metric.startswith("test/") or not file.is_file():
            return None
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return (kept["ids"], kept[name]) if name in kept else None
        except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for damaged bytes
            raise InputError(f"{file} can't be read ({error}). Remove this run.") from error


def find_runs(where: str | Path | Sequence[str | Path]) -> list[SavedRun]:
    """Finished runs in or below a folder, a glob of folders, or a list of both, ordered by folder.

    Raises:
        InputError: there are none.
    """
    folders = {run.resolve(): run for run, finished in _runs_in(where) if finished}
    if not folders:
        listing = ", ".join(map(str, _places(where)))
        raise InputError(
            f"no finished run (a folder with {FINISHED}) in or below {listing}. "
            "Give runs=RUN, runs=outputs/train, or runs='outputs/train/*triplet*'; "
            "`lookalike train` makes one."
        )
    return [read_run(folder) for folder in sorted(folders.values(), key=str)]


def unfinished_runs(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """Folders of runs that were begun and are not finished, in or below the same places."""
    return sorted({run for run, finished in _runs_in(where) if not finished}, key=str)


def read_run(folder: Path) -> SavedRun:
    """One run.

    Raises:
        InputError: its metrics.json can't be read.
    """
    try:
        metrics = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / FINISHED} is no JSON ({error}). Remove this run.") from error
    hydra = _yaml(folder / ".hydra" / "hydra.yaml")
    choices = hydra.get("hydra", {}).get("runtime", {}).get("choices", {})
    run = SavedRun(
        folder=folder,
        metrics=metrics,
        choices={group: choice for group, choice in choices.items() if "/" not in group},
        config=dict(flattened(_yaml(folder / ".hydra" / "config.yaml"))),
        curves={},
    )
    logged = folder / "metrics.csv"
    return replace(run, curves=read_curves(logged)) if run.trained and logged.is_file() else run


def flattened(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Scalars of nested dicts under dotted names; lists are scalars, written out."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flattened(value, f"{above}.{key}" if above else str(key))
    elif above:
        yield above, json.dumps(node) if isinstance(node, list | dict) else node


def _short(value: float | None) -> str:
    """A score with four digits, a count without."""
    return "" if value is None else f"{value:.4f}" if value <= 1 else f"{value:.0f}"


def _places(where: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [where] if isinstance(where, str | Path) else list(where)


def _runs_in(where: str | Path | Sequence[str | Path]) -> Iterator[tuple[Path, bool]]:
    """Folders of runs, not looking for more inside of one, and whether each is finished."""
    found = [place for each in _places(where) for place in sorted(glob(str(each), recursive=True))]
    for place in found:
        for folder, inside, files in walk(place):
            finished = FINISHED in files
            if finished or ("split.csv" in files and "checkpoints" in inside):
                inside.clear()
                yield Path(folder), finished


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8") as stream:
        return yaml.load(stream, LOADER) or {}
