"""Between numpy and Arrow, without pandas.

pyarrow's own conversions import pandas where it is installed, which takes longer than a search.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers(column: pa.ChunkedArray) -> NDArray:
    """The values (N,) of a column of numbers without nulls."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.from_dlpack(whole)


def taken(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of a table, in the order of `rows`, (M,)."""
    content = pa.py_buffer(np.ascontiguousarray(rows, np.int64))
    return table.take(pa.Array.from_buffers(pa.int64(), len(rows), [None, content]))


def texts(values: Sequence[str]) -> pa.Array:
    """Strings, (N,); what is no text in UTF-8, such as an odd file name, equals no other."""
    content = [value.encode(errors="surrogatepass") for value in values]
    ends = np.cumsum([0, *map(len, content)], dtype=np.int32)
    buffers = pa.py_buffer(ends), pa.py_buffer(b"".join(content))
    return pa.StringArray.from_buffers(len(values), *buffers)
