"""What a machine lacks, in the user's words: memory, or a process that reads images."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf

from lookalike.errors import InputError
from lookalike.memory import is_out_of_memory

BATCHES = ("data.batch_size", "data.eval_batch_size", "batch_size")
SIDES = ("crop_size", "backbone.image_size")
_LOST = re.compile(r"DataLoader worker .*(?:exited unexpectedly|killed by signal: \w+)")


@contextmanager
def explained_shortage(config: DictConfig) -> Iterator[None]:
    """A context in which too little memory, or a reading process that dies, is a user's error.

    Args:
        config: of the verb; the settings that need memory are named with their values.

    Raises:
        InputError: with what to lower.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = " ".join(str(error).split())
        if is_out_of_memory(error):
            raise InputError(
                f"Not enough memory ({said[:200] or 'MemoryError'}). {_advice(config)}"
            ) from error
        if lost := _LOST.search(said):
            raise InputError(
                f"a process that reads images was lost ({lost[0]}): killed by the system where "
                f"memory ran out, or by a damaged library. {_reading(config)}"
            ) from error
        raise


def _advice(config: DictConfig) -> str:
    batches, sides = _given(config, BATCHES), _given(config, SIDES)
    lower = [each.partition("=")[0] for each in (*batches, *sides)]
    settings = f"This run has {', '.join((*batches, *sides))}: lower " if lower else "Lower "
    more = _smaller_parts(config) if "trainer" in config else ""
    return f"{settings}{' or '.join(lower) or 'the batch size'}{more}."


def _smaller_parts(config: DictConfig) -> str:
    """How the same batch trains in less memory."""
    chunk = max(1, (config.chunk_size or config.data.batch_size) // 2)
    return (
        f", or train the same batch in chunks (chunk_size={chunk}), or accumulate gradients "
        "(trainer.accumulate_grad_batches=2)"
    )


def _reading(config: DictConfig) -> str:
    key = "data.num_workers" if "data" in config and "num_workers" in config.data else "num_workers"
    return (
        f"Set {key}=0, which reads in the main process, or fewer of them, or lower the batch size."
    )


def _given(config: DictConfig, keys: tuple[str, ...]) -> list[str]:
    """The keys that a configuration has, with their values."""
    found = {key: OmegaConf.select(config, key) for key in keys}
    return [f"{key}={value}" for key, value in found.items() if value is not None]
