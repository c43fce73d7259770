"""Processes that tests start: gloo's, as forks of this one, and programs that fork themselves."""

import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def in_processes(count: int, folder: Path, function: Callable[[int], Any]) -> list[Any]:
    """What a function of the rank returns in each of `count` processes that exchange tensors."""
    context = multiprocessing.get_context("fork")
    kept: list[Any] = []

    def run(rank: int) -> None:
        torch.set_num_threads(1)
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
        )
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(function(rank)))
        kept.append(torch.distributed.group.WORLD)  # torch 2.6 may hang where it is freed
        torch.distributed.destroy_process_group()

    processes = [context.Process(target=run, args=(rank,)) for rank in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are lost in a fork
        for each in processes:
            each.start()
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    (folder / "meeting").unlink(missing_ok=True)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]


def one_thread(**variables: str) -> dict[str, str]:
    """The environment of a program that forks: in a fork OpenMP waits for threads that are gone."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **variables}
