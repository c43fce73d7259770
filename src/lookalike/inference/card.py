"""The card of a shared network: Markdown on its data, protocol, scores, command and licence."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike.evaluation.statistics import mean_interval
from lookalike.inference.checkpoint import Checkpoint

ROWS = {"frozen backbone": "frozen/test/", "before training": "epoch_0/test/", "trained": "test/"}
COUNTS = ("queries", "queries_without_positive")
TEMPLATE = """\
---
{license}library_name: lookalike
pipeline_tag: image-feature-extraction
tags: [metric-learning, image-retrieval, lookalike]
---

# {name}

A network that turns images into vectors of length 1: images of one class lie close together.

```python
import lookalike

embed = lookalike.ImageEmbedder.from_pretrained({place})
vectors = embed(["a.jpg", "b.jpg"])  # (2, {size}) float32
```

The preprocessing comes along: images of any size, as files, bytes, PIL images or arrays.

## Network

{network}

## Data and protocol

{data}

## Scores

{scores}

## How it was made

{origin}
"""


@dataclass(frozen=True)
class Run:
    """What is known of a finished run.

    config: what is shared of its configuration.
    metrics: its metrics.json; empty if it is lost.
    command: the overrides of `lookalike train`.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    command: Sequence[str] = ()


def card(
    checkpoint: Checkpoint,
    run: Run,
    place: str,
    licence: str | None,
    repetitions: Sequence[Run] = (),
) -> str:
    """The card as Markdown, with the header that the Hub reads.

    Args:
        checkpoint: that is shared.
        run: that it comes from.
        place: where a reader loads it from.
        licence: of the weights; null leaves it open, and the card says so.
        repetitions: the same run with other seeds and folds; the card then has their intervals.
    """
    embedder = checkpoint.config["embedder"]
    return TEMPLATE.format(
        license=f"license: {json.dumps(licence)}\n" if licence else "",
        name=run.config["name"],
        place=json.dumps(place),
        size=embedder.get("head", {}).get("embedding_size", "D"),
        network=_listed(_network(run)),
        data=_listed(_data(checkpoint, run)),
        scores=_scores(checkpoint, run, repetitions),
        origin=_listed(_origin(run, licence)),
    )


def _network(run: Run) -> dict[str, Any]:
    embedder, view = run.config["embedder"], run.config["data"]["transform"]["test"]
    backbone = embedder["backbone"]
    return {
        "backbone": backbone.get("name", _short(backbone)),
        "its weights before training": backbone.get("weights") or "random",
        "head": _settings(embedder.get("head", {})),
        "loss": _settings(run.config["loss"]),
        "test view": _settings(view),
        "mean and std of the pixels": f"{backbone.get('mean')}, {backbone.get('std')}",
    }


def _data(checkpoint: Checkpoint, run: Run) -> dict[str, Any]:
    data, counts = run.config["data"], run.metrics.get("counts", {})
    parts = [
        f"{part} {counts[f'{part}_images']} images of {counts[f'{part}_classes']} classes"
        for part in ("train", "val", "test")
        if f"{part}_images" in counts
    ]
    dogs = "lookalike.data.sources.dogs" in data["source"]["_target_"]
    return {
        "source": _settings(data["source"]),
        "protocol": f"{data['protocol']}, fold {data['fold']} of {data['folds']} validates",
        "images": "; ".join(parts),
        "training classes": len(checkpoint.class_names),
        "warning": "the images are from ImageNet: a pretrained backbone has seen them" * dogs,
    }


def _origin(run: Run, licence: str | None) -> dict[str, Any]:
    metrics = run.metrics
    versions = metrics.get("versions", {})
    return {
        "command": f"`{shlex.join(['lookalike', 'train', *run.command])}`",
        "commit": metrics.get("git_commit"),
        "setting": metrics.get("setting"),
        "epochs": metrics.get("epoch"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "licence of the weights": licence or "not stated; ask whoever shared it",
    }


def _scores(checkpoint: Checkpoint, run: Run, repetitions: Sequence[Run]) -> str:
    runs = repetitions or [run]
    names = _metrics(runs[0].metrics)
    if not names:
        table = _table(
            ["", *checkpoint.scores], [["validation", *map(_four, checkpoint.scores.values())]]
        )
        return f"This checkpoint was not tested. Its validation scores:\n\n{table}"
    lines = []
    for row, prefix in ROWS.items():
        cells = [_cell(runs, prefix + name) for name in names]
        lines += [[row, *cells]] if any(cells) else []
    queries = runs[0].metrics.get("test/queries", 0)
    without = runs[0].metrics.get("test/queries_without_positive", 0)
    seeds = len({each.config["seed"] for each in runs})
    between = (
        f" Mean ± 95 % interval of {seeds} seeds, by Student's t; the weights are those of one of "
        "them." if seeds > 1 else " One seed: differences of a few thousandths are chance."
    )  # fmt: skip
    note = f"On the test images: {queries:.0f} queries, {without:.0f} without a positive.{between}"
    return f"{_table(['', *names], lines)}\n\n{note}"


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    tested = (name.removeprefix("test/") for name in metrics if name.startswith("test/"))
    return [name for name in tested if name not in COUNTS]


def _cell(runs: Sequence[Run], name: str) -> str:
    """The mean over the seeds, of each of which the folds are averaged first."""
    values = [(run.config["seed"], run.metrics[name]) for run in runs if name in run.metrics]
    seeds = sorted({seed for seed, _ in values})
    means = [np.mean([value for other, value in values if other == seed]) for seed in seeds]
    if not means:
        return ""
    found = mean_interval(np.array(means, dtype=np.float64))
    return _four(found.mean) + (f" ± {found.half_width:.4f}" if len(means) > 1 else "")


def _settings(node: Mapping[str, Any]) -> str:
    """A part as `Name(key=value, ...)`."""
    values = (f"{k}={v}" for k, v in node.items() if not k.startswith("_") and _is_plain(v))
    return f"`{_short(node)}({', '.join(values)})`"


def _short(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) or (
        isinstance(value, list) and all(isinstance(each, int | float) for each in value)
    )


def _listed(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _four(value: float) -> str:
    return f"{value:.4f}"
