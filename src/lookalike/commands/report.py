"""lookalike report: a page of pictures and tables on one run, on many, or on a sweep."""

import logging
from pathlib import Path

import torch
from omegaconf import DictConfig

from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build, check_arguments
from lookalike.device import find_device
from lookalike.evaluation.plan import Evaluation
from lookalike.files import write_text
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.testing import embed_test_images, measured_images
from lookalike.reports.comparison import monitored
from lookalike.reports.embeddings import TestedImages, read_embeddings, write_embeddings
from lookalike.reports.page.document import Comparison, page
from lookalike.reports.saved import SavedRun, find_runs, unfinished_runs
from lookalike.reports.workspace import save_workspace
from lookalike.training.identity import compared

log = logging.getLogger(__name__)


def report(config: DictConfig) -> Path | str:
    """Writes report.html and tables into this command's folder; returns the page's path.

    With `wandb=entity/project` it makes a W&B workspace instead, and returns its address.
    """
    check_arguments(config.lens)
    if config.wandb:
        address = save_workspace(config.wandb, config.metric or Evaluation().monitor)
        print(address)
        return address
    runs = compared(find_runs(config.runs))
    for unfinished in unfinished_runs(config.runs):
        log.warning("%s is not finished, and not shown.", unfinished)
    comparison = Comparison(runs, config.metric or monitored(runs))
    device = find_device(config.device)
    closely = comparison.runs[: config.closeups]
    kept = {run: _embeddings(run, config, device) for run in closely}
    folder = Path(config.paths.run)
    for name, text in comparison.files().items():
        write_text(folder / name, text)
        print(folder / name)
    file = folder / "report.html"
    write_text(file, page(comparison, kept, build(config.lens)))
    print(file)
    return file


def _embeddings(run: SavedRun, config: DictConfig, device: torch.device) -> TestedImages | None:
    """What a run kept; otherwise, if asked, made from its checkpoint and kept from now on."""
    kept = read_embeddings(run.folder)
    if kept is not None or not config.embed:
        return kept
    named = Path(run.metrics.get("checkpoint", ""))
    file = named if named.is_file() else run.folder / "checkpoints" / "best.ckpt"
    checkpoint = read_checkpoint(file, as_list(config.trust))
    images = measured_images(checkpoint.data())
    embeddings = embed_test_images(checkpoint, images, device)
    write_embeddings(run.folder, embeddings, images.records)
    return read_embeddings(run.folder)


if __name__ == "__main__":
    run_verb("report", report)
