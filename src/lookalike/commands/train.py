"""lookalike train: fit, choose by validation, test once; writes a run folder."""

from lookalike.commands.verb import run_verb
from lookalike.training.run import train

if __name__ == "__main__":
    run_verb("train", train)
