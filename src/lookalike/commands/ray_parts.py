"""Parts embedded by Ray Data, on a cluster: each worker holds the network."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from lookalike.errors import InputError
from lookalike.inference.embedding_parts import Done

ATTEMPTS = 3  # of a part, and of a worker that is started again


def embed_in_ray(config: DictConfig, parts: Sequence[int]) -> Iterator[Done]:
    """Embed parts in `config.workers` processes; a part whose worker ends is done by another.

    The cluster is that of the environment variable RAY_ADDRESS, or else this machine.

    Args:
        config: of `lookalike embed`; the folder that it names is seen by all machines.
        parts: their numbers.

    Raises:
        InputError: Ray is not installed.
    """
    if not parts:
        return
    ray = _ray()
    ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    gpus = 1 if config.device in ("cuda", "auto") and ray.cluster_resources().get("GPU") else 0
    items = [{"part": part} for part in parts]
    numbers = ray.data.from_items(items, override_num_blocks=len(parts))
    done = numbers.map_batches(
        InWorker,
        fn_constructor_args=(OmegaConf.to_container(config, resolve=True),),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=config.workers),
        num_gpus=gpus,
        max_restarts=ATTEMPTS,
        max_task_retries=ATTEMPTS,
    )
    for row in done.iter_rows():
        yield Done(**{name: int(value) for name, value in row.items()})


class InWorker:
    """A worker: it makes the network once, and then does the parts that it is given.

    Args:
        config: of `lookalike embed`, as plain data.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        from lookalike.commands.embed import part_embedder  # which imports this file

        self.embedder = part_embedder(OmegaConf.create(config))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """{"part": (B,)} -> what came of each, by name."""
        done = [self.embedder(int(part)) for part in batch["part"]]
        return {name: np.array([getattr(each, name) for each in done]) for name in vars(done[0])}


def _ray() -> Any:
    try:
        import_module("ray.data")
        return import_module("ray")
    except ImportError:
        raise InputError('launcher=ray needs Ray: pip install "lookalike[ray]"') from None
