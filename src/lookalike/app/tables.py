"""Hits as a table in CSV."""

import csv
from io import StringIO

from lookalike.app.messages import HitsOut


def as_csv(found: HitsOut) -> str:
    """A row for each hit: rank, id, path, class, score and the columns of the index."""
    more = sorted({name for hit in found.hits for name in hit.columns})
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["rank", "id", "path", "class", "score", *more])
    for hit in found.hits:
        values = [hit.columns.get(name, "") for name in more]
        writer.writerow([hit.rank, hit.id, hit.path, hit.class_name, hit.score, *values])
    return stream.getvalue()
