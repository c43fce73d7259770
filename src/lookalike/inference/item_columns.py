"""Columns of items: put together from a listing and from what was read, or set for some rows."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.inference.items import LISTED, OWN, keys_of_items
from lookalike.inference.parts import KEPT


def completed(facts: pa.Table, items: pa.Table) -> pa.Table:
    """What was found of the files, with the class and the columns that are listed."""
    place = {key: row for row, key in enumerate(keys_of_items(items))}
    rows = pa.array([place[key] for key in keys_of_items(facts)], pa.int64())
    listed = items.take(rows)
    for name in listed.column_names:
        if name not in KEPT:
            facts = facts.append_column(name, listed[name])
    return facts


def with_ids(items: pa.Table, ids: NDArray[np.int64]) -> pa.Table:
    """With ids, lookalike's own columns first."""
    table = items.append_column("id", pa.array(ids, pa.int64()))
    more = [name for name in table.column_names if name not in OWN.names]
    return table.select([*OWN.names, *more])


def inherited(items: pa.Table, before: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Listed items with the class and columns that they had, where the listing says nothing.

    Args:
        items: N rows.
        before: the items of the index.
        rows: (N,), where each stands in it; -1 for a new one.
    """
    places = pa.array(rows, mask=rows < 0)
    known = pc.fill_null(before["class"].take(places), "")
    named = pc.if_else(pc.equal(items["class"], ""), known, items["class"])
    result = items.set_column(items.column_names.index("class"), "class", named)
    for name in before.column_names:
        if name not in (*OWN.names, *items.column_names):
            result = result.append_column(name, before[name].take(places))
    return result


def refreshed(
    before: pa.Table,
    listed: pa.Table,
    rows: NDArray[np.int64],
    touched: Mapping[int, tuple[int, int]],
) -> pa.Table:
    """The items of the index with what is listed now; the same table where nothing is different.

    Args:
        before: the items of the index.
        listed: M of them.
        rows: (M,), where each stands.
        touched: row -> size and time of a file that was written again with the same content.
    """
    result = before
    for name in listed.column_names:
        if name not in LISTED or name == "class":
            result = with_values(result, name, rows, listed[name].combine_chunks())
    again = np.array(list(touched), np.int64)
    for number, name in enumerate(("file_size", "file_time")):
        values = pa.array([each[number] for each in touched.values()], pa.int64())
        result = with_values(result, name, again, values)
    return before if result.equals(before) else result


def with_values(table: pa.Table, name: str, rows: NDArray[np.int64], values: pa.Array) -> pa.Table:
    """A table with other values in some rows of a column, which may be new.

    Raises:
        InputError: the column is of another type.
    """
    if not len(rows):
        return table
    new = name not in table.column_names or pa.types.is_null(table[name].type)
    held = pa.nulls(table.num_rows, values.type) if new else table[name].combine_chunks()
    try:
        both = pa.concat_arrays([held, values.cast(held.type)])
    except pa.ArrowException as error:
        raise InputError(
            f"the column {name!r} is {held.type} in the index, and {values.type} in the table "
            f"({error}). Give it one type."
        ) from error
    order = np.arange(table.num_rows)
    order[rows] = table.num_rows + np.arange(len(rows))
    column = both.take(pa.array(order))
    if name not in table.column_names:
        return table.append_column(name, column)
    return table.set_column(table.column_names.index(name), name, column)
