"""lookalike: deep metric learning and image retrieval. Names are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookalike.config import compose
    from lookalike.data.datamodule import RetrievalData
    from lookalike.data.records import Records
    from lookalike.errors import InputError
    from lookalike.evaluation.plan import Evaluation
    from lookalike.inference.classifier import load_classifier
    from lookalike.inference.embedder import ImageEmbedder, load_embedder
    from lookalike.inference.index import Index
    from lookalike.models.embedder import Embedder
    from lookalike.retrieval.embeddings import Embeddings
    from lookalike.retrieval.neighbours import Gallery
    from lookalike.training.learner import MetricLearner
    from lookalike.training.run import train

_HOMES = {
    "Embedder": "lookalike.models.embedder",
    "Embeddings": "lookalike.retrieval.embeddings",
    "Evaluation": "lookalike.evaluation.plan",
    "Gallery": "lookalike.retrieval.neighbours",
    "ImageEmbedder": "lookalike.inference.embedder",
    "Index": "lookalike.inference.index",
    "InputError": "lookalike.errors",
    "MetricLearner": "lookalike.training.learner",
    "Records": "lookalike.data.records",
    "RetrievalData": "lookalike.data.datamodule",
    "compose": "lookalike.config",
    "load_classifier": "lookalike.inference.classifier",
    "load_embedder": "lookalike.inference.embedder",
    "train": "lookalike.training.run",
}

__all__ = [
    "Embedder",
    "Embeddings",
    "Evaluation",
    "Gallery",
    "ImageEmbedder",
    "Index",
    "InputError",
    "MetricLearner",
    "Records",
    "RetrievalData",
    "compose",
    "load_classifier",
    "load_embedder",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lookalike' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
