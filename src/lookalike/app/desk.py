"""The desk: takes a request apart, hands it to the queue of its index, puts the answer together."""

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from lookalike.app.answering import DEPTH, Answer, Answering, Question, Ranking
from lookalike.app.examples import Example, Sent, digest_of, parse
from lookalike.app.explaining import Explaining
from lookalike.app.facets import Spread, facets, filter_of
from lookalike.app.limits import Limits, check_image
from lookalike.app.messages import (
    Browsed,
    Chosen,
    Facet,
    HitOut,
    HitsOut,
    ItemOut,
    ItemsOut,
    Searched,
)
from lookalike.app.problems import RequestError
from lookalike.app.queue import BatchQueue
from lookalike.app.served import Served
from lookalike.app.telemetry import Telemetry
from lookalike.app.vectors import served
from lookalike.inference.hits import Hit
from lookalike.inference.items import OWN

MOST_EXPLAINED = 8  # questions why that wait
Conditions = dict[str, str]  # column -> a filter on it; "" for the one that the user typed


class Desk:
    """Answers of one server.

    Args:
        indexes: by name, at least one.
        limits: of what is sent.
        most_waiting: searches that wait for an index at most.
        batch_size: searches at once at most.
    """

    def __init__(
        self,
        indexes: Mapping[str, Served],
        limits: Limits,
        most_waiting: int = 64,
        batch_size: int = 16,
    ) -> None:
        self.indexes = indexes
        self.limits = limits
        self.queues: dict[str, BatchQueue[Question, Answer]] = {
            name: BatchQueue(Answering(each, indexes), most_waiting, batch_size)
            for name, each in indexes.items()
        }
        self.regions = BatchQueue(Explaining(indexes), MOST_EXPLAINED, 1)
        self.telemetry = Telemetry(
            {name: each.__len__ for name, each in self.queues.items()},
            {name: lambda each=each: len(each.current()) for name, each in indexes.items()},
        )

    def index(self, name: str) -> Served:
        """The index of this name; the first one for no name."""
        return served(self.indexes, name or next(iter(self.indexes)))

    def waiting(self) -> int:
        """Searches that wait, in all queues."""
        return sum(map(len, self.queues.values()))

    async def search(self, asked: Searched, files: Sequence[bytes] = ()) -> HitsOut:
        """The hits of a query, with facets of all hits.

        Raises:
            RequestError: a parameter or an image does not fit, or too much is waiting.
        """
        index = self.index(asked.index)
        sent = self.checked(files)
        positives, negatives = self._examples(asked, list(sent))
        conditions = _conditions(asked, index.current().items)
        question = Question(positives, negatives, _wheres(conditions), asked.fold, sent)
        began = perf_counter()
        answer = await asyncio.wrap_future(self.queues[index.name].submit(question))
        waited = perf_counter() - began - sum(answer.seconds.values())
        seconds = {"waiting": max(0.0, waited), **answer.seconds}
        self.telemetry.observe(seconds)
        return await asyncio.to_thread(
            _hits_out, index, asked, question, conditions, answer, seconds
        )

    def browse(self, asked: Browsed) -> ItemsOut:
        """A page of the items that filters keep, with facets of all of them."""
        index = self.index(asked.index)
        every = index.current().items
        conditions = _conditions(asked, every)
        kept = index.kept(_wheres(conditions)[0])
        rows = np.arange(kept.num_rows)
        if asked.order == "mixed":
            rows = np.argsort(kept["id"].to_numpy() * 2654435761 % 2**32, kind="stable")
        page = kept.take(pa.array(rows[asked.offset : asked.offset + asked.k]))
        counted = {name: index.kept(_without(conditions, name)) for name in conditions}
        return ItemsOut(
            index=index.name,
            total=kept.num_rows,
            items=[ItemOut(**_item(index.name, item)) for item in page.to_pylist()],
            facets=_facets(index.spreads(), kept, counted),
        )

    def item(self, index: str, id: int) -> ItemOut:
        """One item.

        Raises:
            RequestError: there is none of that id.
        """
        chosen = self.index(index)
        found = chosen.items([id]).to_pylist()
        if not found:
            raise RequestError(404, f"the index {chosen.name} has no item {id}")
        return ItemOut(**_item(chosen.name, found[0]))

    def close(self) -> None:
        """End the threads, once what waits is done."""
        for each in (*self.queues.values(), self.regions):
            each.close()

    def checked(self, files: Sequence[bytes]) -> dict[str, bytes]:
        """Images that were sent, by their digests.

        Raises:
            RequestError: one is none, or is too large.
        """
        self.limits.check_sizes(list(map(len, files)))
        for number, file in enumerate(files):
            check_image(file, self.limits, f"file {number}")
        return {digest_of(file): file for file in files}

    def _examples(
        self, asked: Searched, digests: list[str]
    ) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """Positives and negatives; without any, all files are positives."""
        positives: list[Example] = [parse(text, digests) for text in asked.positive]
        negatives: list[Example] = [parse(text, digests) for text in asked.negative]
        if not positives and not negatives:
            positives = [Sent(digest) for digest in digests]
        if not positives:
            raise RequestError(422, "give an example: send an image as file, or positive=NAME/ID")
        return tuple(dict.fromkeys(positives)), tuple(dict.fromkeys(negatives))


def _conditions(asked: Chosen, items: pa.Table) -> Conditions:
    typed = {"": f"({asked.where})"} if asked.where else {}
    return typed | filter_of(asked.only, items)


def _joined(conditions: Sequence[str]) -> str | None:
    return " and ".join(conditions) or None


def _without(conditions: Conditions, name: str) -> str | None:
    return _joined([each for column, each in conditions.items() if column != name])


def _wheres(conditions: Conditions) -> tuple[str | None, ...]:
    """The whole filter; then it without the choice in a column, for the other values' counts."""
    every = [_joined(list(conditions.values()))]
    return tuple(every + [_without(conditions, name) for name in conditions if name])


def _hits_out(
    index: Served,
    asked: Searched,
    question: Question,
    conditions: Conditions,
    answer: Answer,
    seconds: dict[str, float],
) -> HitsOut:
    above = [[hit for hit in hits if hit.score >= asked.threshold] for hits in answer.rankings]
    tables = [index.items([hit.id for hit in hits]) for hits in above]
    counted = dict(zip([name for name in conditions if name], tables[1:], strict=True))
    page = above[0][asked.offset : asked.offset + asked.k]
    return HitsOut(
        index=index.name,
        positive=[str(each) for each in question.positives],
        negative=[str(each) for each in question.negatives],
        total=len(above[0]),
        reach=DEPTH,
        more=_goes_on(answer.rankings[0], above[0]),
        hits=[_hit_out(index.name, hit) for hit in page],
        facets=_facets(index.spreads(), tables[0], counted),
        seconds={step: round(spent, 6) for step, spent in seconds.items()},
    )


def _goes_on(ranking: Ranking, above: Ranking) -> bool:
    """Whether a ranking ends at `DEPTH` items, and not at the threshold or the last item."""
    return len(above) == len(ranking) and sum(1 + len(hit.copies) for hit in ranking) >= DEPTH


def _facets(
    columns: Sequence[Spread], kept: pa.Table, counted: Mapping[str, pa.Table]
) -> list[Facet]:
    """Each column is counted without the choice in itself."""
    found = [facets(counted.get(each.column, kept), [each])[0] for each in columns]
    return [Facet(**each) for each in found]


def _hit_out(index: str, hit: Hit) -> HitOut:
    item = {"id": hit.id, "path": hit.path, "class": hit.class_name, **hit.columns}
    score = round(hit.score, 6)
    return HitOut(**_item(index, item), rank=hit.rank, score=score, copies=list(hit.copies))


def _item(index: str, item: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: value for name, value in item.items() if name not in OWN.names}
    return {
        "id": item["id"],
        "reference": f"{index}/{item['id']}",
        "path": item["path"],
        "class_name": item["class"],
        "columns": columns,
        "thumbnail": f"/thumbnails/{index}/{item['id']}",
    }
