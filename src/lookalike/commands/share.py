"""lookalike share: hand a trained network on, as a folder or on the Hugging Face Hub."""

from omegaconf import DictConfig

from lookalike.commands.verb import run_verb
from lookalike.config import as_list
from lookalike.errors import InputError
from lookalike.hub import is_on_hub
from lookalike.inference.card import Run
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.share import share_as_folder, share_on_hub
from lookalike.reports.comparison import differing
from lookalike.reports.saved import FOLD, SEED, find_runs
from lookalike.training.identity import compared


def share(config: DictConfig) -> str:
    """Writes or uploads the network with its card; returns where it is."""
    if not config.checkpoint or not config.to:
        raise InputError(
            "give checkpoint=RUN/checkpoints/best.ckpt and to=<a new folder> or to=hf-hub:user/name"
        )
    checkpoint = read_checkpoint(config.checkpoint, as_list(config.trust))
    checkpoint.embedder()  # what can't be built is not shared
    runs = _repetitions(as_list(config.runs))
    if is_on_hub(config.to):
        place = share_on_hub(checkpoint, config.to, config.licence, runs, config.private)
    else:
        place = str(share_as_folder(checkpoint, config.to, config.licence, runs))
    print(place)
    return place


def _repetitions(places: list[str]) -> list[Run]:
    if not places:
        return []
    runs = compared(find_runs(places))
    others = [key for key in differing(runs) if key not in (SEED, FOLD)]
    if others:
        raise InputError(
            f"these runs differ in {', '.join(others)}, so that they are not repetitions of one "
            "setting. Give runs=... that differ in seed and fold alone."
        )
    return [Run({"seed": run.seed}, run.metrics) for run in runs]


if __name__ == "__main__":
    run_verb("share", share)
