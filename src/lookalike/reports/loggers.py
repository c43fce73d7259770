"""The one place that knows the loggers: what they are told besides Lightning's metrics."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from lookalike.data.decoding import as_tensor, read_image
from lookalike.errors import InputError
from lookalike.inference.checkpoint import weights_alone
from lookalike.reports.answers import answers, tiles
from lookalike.reports.finished import FinishedRun
from lookalike.reports.saved import flattened
from lookalike.reports.sheet import contact_sheet

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds that W&B may wait for its server or a login; then the run goes offline
UPLOAD = "60"  # seconds that the end of a run may wait for the rest to be uploaded
EXAMPLES, ANSWERS = 16, 5  # queries shown at the end, and nearest images of each
PROJECTED, SPRITE = 1000, 32  # images in TensorBoard's projector, at most, and their pixels


class WandbRun(WandbLogger):
    """Lightning's logger with a W&B run of its own.

    Args:
        keeps_best: whether the network that was tested becomes an artifact.
        settings: of Lightning's class.
    """

    def __init__(self, keeps_best: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.keeps_best = keeps_best


def open_wandb(
    save_dir: str,
    launch: str = "RUN train now",
    cell: str = "",
    log_model: Literal["best", False] = False,
    **settings: Any,
) -> WandbRun:
    """A logger with a W&B run of its own that never holds up the training.

    Where W&B can't be reached, or nobody is logged in, the run is kept offline, to be uploaded by
    `wandb sync`.

    Args:
        save_dir: where W&B makes its folder.
        launch: Hydra's mode, the verb and the time of the start.
        cell: the overrides of a sweep's job, without what repeats it.
        log_model: "best" makes an artifact of the network that was tested, its weights alone;
            false of none.
        settings: for `wandb.init`. A group of null is the sweep, and a job_type of null its cell,
            or the verb of a run of its own.

    Raises:
        InputError: log_model is something else.
    """
    if log_model not in ("best", False):
        raise InputError(f"logger.wandb.log_model={log_model}: it is best or false")
    if rank_zero_only.rank != 0:
        return WandbRun(save_dir=save_dir)
    usual = _usual(launch, cell)
    settings |= {"dir": save_dir} | {key: settings.get(key) or usual[key] for key in usual}
    run = _begin(settings)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbRun(log_model == "best", experiment=run)


def for_tables(node: Any) -> Any:
    """A configuration for a table of runs: every object by its class's name, nothing private.

    >>> for_tables({"loss": {"_target_": "x.losses.TripletMarginLoss", "margin": 0.1}})
    {'loss': {'class': 'TripletMarginLoss', 'margin': 0.1}}
    """
    if not isinstance(node, dict):
        return node
    named = {"class": node["_target_"].rsplit(".", 1)[-1]} if "_target_" in node else {}
    return named | {
        key: for_tables(value) for key, value in node.items() if not key.startswith("_")
    }


def publish(
    loggers: Sequence[Logger],
    run: FinishedRun,
    metrics: Mapping[str, Any],
    checkpoint: Path,
    files: Sequence[Path],
) -> None:
    """Give a finished run to the loggers that can show it, and close them.

    Args:
        loggers: of its trainer.
        run: with the test embeddings.
        metrics: scores and facts, as in metrics.json.
        checkpoint: of the network that was tested.
        files: that its reports wrote; the pictures are shown.
    """
    pictures = [file for file in files if file.suffix == ".png"]
    numbers = _numbers(metrics)
    for logger in loggers:
        if isinstance(logger, WandbRun):
            model = checkpoint if logger.keeps_best else None
            _to_wandb(logger.experiment, run, numbers, model, pictures)
        elif isinstance(logger, TensorBoardLogger):
            _to_tensorboard(logger, run, numbers, pictures)


def _usual(launch: str, cell: str) -> dict[str, str | None]:
    """The group and the job type of a run: of a sweep all jobs are one group."""
    mode, verb, time = launch.split()
    if "MULTIRUN" in mode:
        return {"group": f"{verb}_{time}", "job_type": cell or verb}
    return {"group": None, "job_type": verb}


def _begin(settings: dict[str, Any]) -> Any:
    """A new W&B run, offline if W&B can't be used."""
    os.environ.setdefault("WANDB_FINISH_TIMEOUT", UPLOAD)  # older W&B knows no such limit
    import wandb

    wandb.finish(exit_code=1)  # an earlier job of this sweep that was cut off
    try:
        waits = wandb.Settings(init_timeout=PATIENCE, login_timeout=PATIENCE)
        return wandb.init(**settings, settings=waits)
    except wandb.Error as error:
        run = wandb.init(**settings, mode="offline")
        log.warning(
            "W&B can't be used (%s). The run is kept offline; upload it with `wandb sync %s`.",
            str(error).splitlines()[0], Path(run.dir).parent,
        )  # fmt: skip
        return run


def _to_wandb(
    experiment: Any,
    run: FinishedRun,
    numbers: Mapping[str, float],
    checkpoint: Path | None,
    pictures: Sequence[Path],
) -> None:
    """Examples, pictures, scores and the checkpoint; then W&B's run is closed."""
    import wandb

    shown = {f"report/{file.stem}": wandb.Image(str(file)) for file in pictures}
    experiment.log({"examples": _wandb_examples(run), **shown})
    # curves have their own best values in the summary
    experiment.summary.update({n: v for n, v in numbers.items() if not n.startswith("val/")})
    if checkpoint is not None:
        model = wandb.Artifact(f"model-{experiment.id}", "model", metadata=dict(numbers))
        with model.new_file("best.ckpt", mode="wb") as stream:
            torch.save(weights_alone(checkpoint), stream)
        experiment.log_artifact(model, aliases=["best"])
    experiment.finish()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of metrics.json, those of its parts under dotted names such as "counts.train"."""
    return {
        name: value for name, value in flattened(dict(metrics)) if isinstance(value, int | float)
    }


def _wandb_examples(run: FinishedRun) -> Any:
    """A table with a line a query: its nearest images, and the cosine similarity of the first."""
    import wandb

    table = wandb.Table(columns=["query", "class", "nearest", "right", "similarity"])
    for query, ids, distances in _examples(run):
        label = run.records.labels[query]
        table.add_data(
            Path(run.records.paths[query]).name,
            run.records.class_names[label],
            wandb.Image(contact_sheet([tiles(run.records, query, ids, distances)])),
            float(np.mean(run.records.labels[ids] == label)) if ids else 0.0,
            1 - distances[0] / 2 if ids else 0.0,
        )
    return table


def _to_tensorboard(
    logger: TensorBoardLogger,
    run: FinishedRun,
    numbers: Mapping[str, float],
    pictures: Sequence[Path],
) -> None:
    """Test scores beside the hyper-parameters, examples, pictures and embeddings."""
    tests = {f"hparam/{name}": v for name, v in numbers.items() if name.startswith("test/")}
    logger.log_hyperparams(logger.hparams, tests)
    examples = [tiles(run.records, *found) for found in _examples(run)]
    shown = {"examples": np.asarray(contact_sheet(examples))}
    shown |= {f"report/{file.stem}": np.asarray(read_image(file)) for file in pictures}
    for name, pixels in shown.items():  # (H, W, 3) uint8
        logger.experiment.add_image(name, pixels, run.epochs, dataformats="HWC")
    _add_projector(logger.experiment, run)
    logger.experiment.flush()


def _add_projector(writer: Any, run: FinishedRun) -> None:
    """Some test embeddings with their classes and thumbnails."""
    tested = run.embeddings[_drawn(len(run.embeddings), PROJECTED)]
    thumbnails = [
        as_tensor(ImageOps.fit(read_image(path), (SPRITE, SPRITE)))
        for path in run.records.paths[tested.ids]
    ]
    writer.add_embedding(
        torch.from_numpy(tested.vectors),
        metadata=[run.records.class_names[label] for label in tested.labels],
        label_img=torch.stack(thumbnails).float() / 255,  # (N, 3, SPRITE, SPRITE) in [0, 1]
        tag="test",
    )


def _examples(run: FinishedRun) -> list[tuple[int, list[int], list[float]]]:
    """Some queries with their nearest images, as `answers` gives them."""
    queries = int((run.records.roles[run.embeddings.ids] != "gallery").sum())
    return answers(run, ANSWERS, _drawn(queries, EXAMPLES))


def _drawn(total: int, most: int) -> NDArray[np.int64]:
    """Row numbers, at most so many, ascending; the same for every run on the same images."""
    return np.sort(np.random.default_rng(0).choice(total, min(most, total), replace=False))
