"""lookalike embed: images as vectors in Parquet files, part by part, on one machine or many."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from lookalike.commands.networks import check_one_network, given_network
from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build
from lookalike.device import find_device
from lookalike.errors import InputError
from lookalike.inference.embedding_parts import Done, PartEmbedder
from lookalike.inference.vector_parts import begin_parts, missing_parts
from lookalike.inference.work import work_of
from lookalike.progress import track

log = logging.getLogger(__name__)


def embed(config: DictConfig) -> int:
    """Writes the parts of a shard that are not there yet; returns how many images that were."""
    shard = _shard(str(config.shard))
    _check(config)
    embedder = part_embedder(config)
    count, folder = len(embedder.work), embedder.folder
    begin_parts(folder, embedder.plan())
    missing = missing_parts(folder, count, shard)
    log.info("%d of %d parts are to be done here, into %s.", len(missing), count, folder)
    done = list(_in_ray(config, missing) if config.launcher == "ray" else _here(embedder, missing))
    images, problems = sum(each.images for each in done), sum(each.problems for each in done)
    print(f"{images} images embedded, {problems} can't be read (part-*.unreadable.csv): {folder}")
    return images


def part_embedder(config: DictConfig) -> PartEmbedder:
    """What embeds the parts, as a command line says."""
    return PartEmbedder(
        given_network(config),
        build(config.embedding),
        work_of([str(place) for place in as_list(config.images)], config.part_size),
        Path(config.out),
        find_device(config.device),
        config.batch_size,
        config.threads,
    )


def _here(embedder: PartEmbedder, parts: list[int]) -> Iterable[Done]:
    return map(embedder, track(parts, "Embedding"))


def _in_ray(config: DictConfig, parts: list[int]) -> Iterable[Done]:
    from lookalike.commands.ray_parts import embed_in_ray  # imports Ray, an extra

    return embed_in_ray(config, parts)


def _check(config: DictConfig) -> None:
    check_one_network(config)
    if config.images is None or config.out is None:
        raise InputError("give images=<folder, table, glob or tars> and out=<folder of the parts>")
    if config.launcher not in ("none", "ray"):
        raise InputError(f"launcher={config.launcher} is not known; it is none or ray")


def _shard(text: str) -> tuple[int, int]:
    """i and n of "i/n"."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"shard={text}: give i/n with i from 0 to n-1, such as shard=0/8")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    run_verb("embed", embed)
