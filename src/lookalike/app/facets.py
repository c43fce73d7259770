"""Facets: how many of some items have each value of a column, and filters made of chosen values."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from lookalike.errors import InputError, did_you_mean
from lookalike.inference.items import OWN

pc: Any = pyarrow.compute  # its functions are made at run time

SHOWN = 200  # values of a column at most
BINS = 16  # of a column of numbers
RANGE = re.compile(r"(-?[0-9.e+]+)\.\.(-?[0-9.e+]+)", re.IGNORECASE)


def facets(items: pa.Table, every: pa.Table) -> list[dict[str, Any]]:
    """Of every column that says something: its values with counts, or its range in bins.

    Args:
        items: that are counted.
        every: all items, which decide what columns there are and how far a range reaches.
    """
    return [
        _numbers(name, items[name], every[name])
        if _is_number(every[name].type)
        else _values(name, items[name])
        for name in facet_columns(every)
    ]


def facet_columns(items: pa.Table) -> list[str]:
    """Class and the columns of a table that have more than one value, and fewer than rows."""
    names = [name for name in items.column_names if name == "class" or name not in OWN.names]
    return [name for name in names if _says_something(items[name])]


def filter_of(chosen: Sequence[str], items: pa.Table) -> dict[str, str]:
    """Column -> the filter that keeps any of its chosen values.

    >>> filter_of(["class=bed", "class=sofa"], pa.table({"class": ["bed", "sofa"]}))
    {'class': '"class" in (\\'bed\\', \\'sofa\\')'}

    Args:
        chosen: each "column=value", or "column=low..high" of numbers.
        items: with these columns.

    Raises:
        InputError: a text is none of these, or there is no such column.
    """
    values: dict[str, list[str]] = {}
    for text in chosen:
        name, equals, value = text.partition("=")
        if not equals or name not in items.column_names:
            hint = did_you_mean(name, items.column_names)
            raise InputError(
                f"only={text}: write only=COLUMN=VALUE with a column of the index.{hint}"
            )
        values.setdefault(name, []).append(value)
    return {name: _condition(name, some, items[name].type) for name, some in values.items()}


def _condition(name: str, values: Sequence[str], kind: pa.DataType) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if pa.types.is_boolean(kind):
        return f"{column} in ({', '.join(_boolean(name, value) for value in values)})"
    if not _is_number(kind):
        texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        return f"{column} in ({texts})"
    return "(" + " or ".join(f"{column} between {_range(name, value)}" for value in values) + ")"


def _boolean(name: str, value: str) -> str:
    if value not in ("true", "false"):
        raise InputError(f"only={name}={value}: write true or false")
    return value


def _range(name: str, value: str) -> str:
    found = RANGE.fullmatch(value)
    try:
        low, high = (float(edge) for edge in (found.groups() if found else (value, value)))
    except ValueError:
        raise InputError(f"only={name}={value}: write a number, or a range as 10..20") from None
    return f"{low:.17g} and {high:.17g}"


def _says_something(column: pa.ChunkedArray) -> bool:
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        return False
    count = pc.count_distinct(column).as_py()
    return count > 1 and (_is_number(column.type) or count <= max(2, len(column) // 2))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _values(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    pairs = pc.value_counts(column.drop_null()).to_pylist()
    ordered = sorted(pairs, key=lambda pair: (-pair["counts"], str(pair["values"])))
    values = [{"value": _text(pair["values"]), "count": pair["counts"]} for pair in ordered[:SHOWN]]
    return {"column": name, "kind": "values", "values": values, "more": max(0, len(pairs) - SHOWN)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(name: str, column: pa.ChunkedArray, every: pa.ChunkedArray) -> dict[str, Any]:
    limits = pc.min_max(every).as_py()
    low, high = float(limits["min"]), float(limits["max"])
    values = column.drop_null().cast(pa.float64()).to_numpy()
    counts = np.histogram(values[np.isfinite(values)], BINS, (low, high))[0].tolist()
    whole = pa.types.is_integer(every.type)
    return {
        "column": name, "kind": "range", "low": low, "high": high, "whole": whole, "counts": counts,
    }  # fmt: skip
