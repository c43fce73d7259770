"""lookalike: deep metric learning and image retrieval. Names are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookalike.checkpoint import ImageEmbedder, load_embedder
    from lookalike.data.datamodule import RetrievalData
    from lookalike.data.records import Records
    from lookalike.errors import InputError
    from lookalike.evaluation.plan import Evaluation
    from lookalike.learner import MetricLearner
    from lookalike.models.embedder import Embedder
    from lookalike.retrieval.embeddings import Embeddings
    from lookalike.retrieval.neighbours import Gallery

_HOMES = {
    "Embedder": "lookalike.models.embedder",
    "Embeddings": "lookalike.retrieval.embeddings",
    "Evaluation": "lookalike.evaluation.plan",
    "Gallery": "lookalike.retrieval.neighbours",
    "ImageEmbedder": "lookalike.checkpoint",
    "InputError": "lookalike.errors",
    "MetricLearner": "lookalike.learner",
    "Records": "lookalike.data.records",
    "RetrievalData": "lookalike.data.datamodule",
    "load_embedder": "lookalike.checkpoint",
}

__all__ = [
    "Embedder",
    "Embeddings",
    "Evaluation",
    "Gallery",
    "ImageEmbedder",
    "InputError",
    "MetricLearner",
    "Records",
    "RetrievalData",
    "load_embedder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lookalike' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
