"""Facets: how many of some items have each value of a column, and filters made of chosen values."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.errors import InputError, did_you_mean
from lookalike.inference.items import OWN

SHOWN = 200  # values of a column at most
BINS = 16  # of a column of numbers
RANGE = re.compile(r"(-?[0-9.e+]+)\.\.(-?[0-9.e+]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Spread:
    """A column that says something, over all items of an index.

    column: its name.
    number: whether it holds numbers, which are counted in bins.
    whole: whether these are integers.
    low: the least number.
    high: the largest.
    """

    column: str
    number: bool
    whole: bool = False
    low: float = 0.0
    high: float = 0.0


def spreads(every: pa.Table) -> list[Spread]:
    """Class and the columns of a table that have more than one value, and fewer than rows."""
    names = [name for name in every.column_names if name == "class" or name not in OWN.names]
    found = (_spread(name, every[name]) for name in names)
    return [spread for spread in found if spread is not None]


def facets(items: pa.Table, columns: Sequence[Spread]) -> list[dict[str, Any]]:
    """Of every column its values with counts, or its range in bins.

    Args:
        items: that are counted.
        columns: of the whole index.
    """
    return [
        _numbers(each, items[each.column])
        if each.number
        else _values(each.column, items[each.column])
        for each in columns
    ]


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


def _spread(name: str, column: pa.ChunkedArray) -> Spread | None:
    if _is_number(column.type):
        values = _finite(column)
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        whole = pa.types.is_integer(column.type)
        return Spread(name, True, whole, low, high) if low < high else None
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        return None
    count = len(column.drop_null().unique())
    return Spread(name, False) if 1 < count <= max(2, len(column) // 2) else None


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _values(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    pairs = column.drop_null().value_counts().to_pylist()
    ordered = sorted(pairs, key=lambda pair: (-pair["counts"], str(pair["values"])))
    values = [{"value": _text(pair["values"]), "count": pair["counts"]} for pair in ordered[:SHOWN]]
    return {"column": name, "kind": "values", "values": values, "more": max(0, len(pairs) - SHOWN)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(spread: Spread, column: pa.ChunkedArray) -> dict[str, Any]:
    counts = np.histogram(_finite(column), BINS, (spread.low, spread.high))[0].tolist()
    about = {name: value for name, value in asdict(spread).items() if name != "number"}
    return {"kind": "range", "counts": counts, **about}


def _finite(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values = column.drop_null().cast(pa.float64()).to_numpy()
    return values[np.isfinite(values)]
