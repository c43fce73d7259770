"""A filter of `retrieval.where` in Qdrant's words: what must, should or must not hold."""

from typing import Any

from lookalike.errors import InputError
from lookalike.retrieval.where import parsed

RANGES = {"LT": "lt", "LTE": "lte", "GT": "gt", "GTE": "gte"}


def qdrant_filter(text: str, models: Any) -> Any:
    """A filter as Qdrant's.

    Args:
        text: see `retrieval.where`.
        models: the module of qdrant_client.

    Raises:
        InputError: it does not parse, or Qdrant has no words for it.
    """
    return models.Filter(must=[_written(parsed(text), models)])


def _written(node: Any, models: Any) -> Any:
    kind, left, right = type(node).__name__, node.this, node.args.get("expression")
    if kind == "Paren":
        return _written(left, models)
    if kind == "Not":
        return models.Filter(must_not=[_written(left, models)])
    if kind in ("And", "Or"):
        parts = [_written(part, models) for part in (left, right)]
        return models.Filter(**{"must" if kind == "And" else "should": parts})
    if type(left).__name__ != "Column":
        raise _unknown(node)
    if kind == "EQ":
        return _equal(left, right, models)
    if kind == "NEQ":
        return models.Filter(must_not=[_equal(left, right, models)])
    if kind == "In":
        every = [_equal(left, each, models) for each in node.expressions]
        return models.Filter(should=every)
    if kind == "Between":
        return _between(left, models, gte=node.args["low"], lte=node.args["high"])
    if kind in RANGES:
        return _between(left, models, **{RANGES[kind]: right})
    raise _unknown(node)


def _equal(column: Any, node: Any, models: Any) -> Any:
    value = _value(node)
    if isinstance(value, float):
        return _between(column, models, gte=node, lte=node)  # for whole numbers and others
    return models.FieldCondition(key=column.name, match=models.MatchValue(value=value))


def _between(column: Any, models: Any, **ends: Any) -> Any:
    values = {end: _value(node) for end, node in ends.items()}
    if not all(isinstance(value, float) for value in values.values()):
        raise InputError(f"where= on Qdrant compares {column.name} with numbers only")
    return models.FieldCondition(key=column.name, range=models.Range(**values))


def _value(node: Any) -> str | bool | float:
    match type(node).__name__:
        case "Literal":
            return node.this if node.is_string else float(node.this)
        case "Neg" if type(node.this).__name__ == "Literal":
            return -float(node.this.this)
        case "Boolean":
            return bool(node.this)
    raise _unknown(node)


def _unknown(node: Any) -> InputError:
    return InputError(f"where= on Qdrant does not know {node.sql(dialect='duckdb')!r}")
