"""Between numpy and Arrow, without pandas.

pyarrow's own conversions import pandas where it is installed, which takes longer than a search.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

pc: Any = pyarrow.compute  # its functions are made at run time


def numbers(column: pa.ChunkedArray) -> NDArray:
    """The values (N,) of a column of numbers without nulls."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.from_dlpack(whole)


def taken(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of a table, in the order of `rows`, (M,)."""
    content = pa.py_buffer(np.ascontiguousarray(rows, np.int64))
    return table.take(pa.Array.from_buffers(pa.int64(), len(rows), [None, content]))


def is_one_of(column: pa.ChunkedArray, values: Sequence[str]) -> NDArray[np.bool_]:
    """Where a column of strings holds one of some values, (N,).

    A value that is no text in UTF-8, such as an odd file name, is nowhere.
    """
    content = [value.encode(errors="surrogatepass") for value in values]
    ends = np.cumsum([0, *map(len, content)], dtype=np.int32)
    buffers = pa.py_buffer(ends), pa.py_buffer(b"".join(content))
    wanted = pa.StringArray.from_buffers(len(values), *buffers)
    return numbers(pc.cast(pc.is_in(column, wanted), pa.uint8())).astype(bool)
