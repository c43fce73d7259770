"""The images that a checkpoint is tested on, and their embeddings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lookalike.config import build
from lookalike.data.checking import check_heads
from lookalike.data.lists import excluded
from lookalike.data.measurable import check_measurable
from lookalike.data.measuring import MeasuredImages, check_image_settings, disk_cache
from lookalike.data.records import Records
from lookalike.data.splits import split_records
from lookalike.inference.checkpoint import Checkpoint
from lookalike.models.embedding_engine import EmbeddingEngine
from lookalike.retrieval.embeddings import Embeddings, embed

AUTO = EmbeddingEngine()


def measured_images(data: Mapping[str, Any]) -> MeasuredImages:
    """The images of a data set with their splits, fetched or drawn if need be.

    Args:
        data: that part of a configuration, as plain data; a checkpoint has it. What only training
            needs (the sampler, the miner) is not looked at.

    Raises:
        InputError: the data are not there, or don't fit the protocol.
    """
    records = split_images(data)
    check_measurable(records, "test", data["folds"])
    transform = {view: build(given) for view, given in data["transform"].items()}
    check_image_settings(transform, data["cache"])
    cached = disk_cache(records, transform, data["cache"], data["cache_folder"])
    return MeasuredImages(records, transform, data["eval_batch_size"], data["num_workers"], cached)


def split_images(data: Mapping[str, Any]) -> Records:
    """The images of a data set with their splits, fetched or drawn if need be.

    Args:
        data: as for `measured_images`.

    Raises:
        InputError: the data are not there.
    """
    source = build(data["source"])
    source.prepare()
    chosen = ("classes", "protocol", "folds", "fold", "holdout", "seed")
    every = excluded(source.records(), data.get("exclude"))  # older checkpoints have no such key
    return split_records(every, **{key: data[key] for key in chosen})


def embed_test_images(
    checkpoint: Checkpoint,
    images: MeasuredImages,
    device: torch.device,
    engine: EmbeddingEngine = AUTO,
) -> Embeddings:
    """The test images as a checkpoint sees them, with their exclusion_ids."""
    check_heads(images.records.at(images.records.ids("test")))
    batches = images.loader(images.records.ids("test"))
    compute = engine.faster(checkpoint.embedder().to(device))
    embeddings = embed(compute, batches, device)
    return replace(
        embeddings,
        exclusion_ids=images.records.exclusion_ids[embeddings.ids],
        fingerprint=checkpoint.fingerprint(),
    )
