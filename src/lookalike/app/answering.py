"""Answers to questions about one index, several at once: decode, embed, search."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lookalike.app.examples import Example, Item
from lookalike.app.recent import Recent
from lookalike.app.served import Served
from lookalike.app.stopwatch import Stopwatch
from lookalike.app.vectors import ExampleVectors
from lookalike.errors import InputError
from lookalike.inference.asking import folded
from lookalike.inference.combining import combined
from lookalike.inference.hits import Hit
from lookalike.inference.index import Index

DEPTH = 1000  # nearest items that an answer reaches
REMEMBERED = 64  # lists of hits, for the next page and other thresholds
STEPS = ("decoding", "embedding", "searching")

Ranking = Sequence[Hit]


@dataclass(frozen=True)
class Question:
    """What is asked of an index.

    positives: examples of what is looked for, at least one.
    negatives: examples that hits shall not look like.
    wheres: filters, each of which gets a ranking; None for no filter.
    fold: whether near-duplicates are folded into the best of them.
    files: the images that came with it, by their digests.
    """

    positives: tuple[Example, ...]
    negatives: tuple[Example, ...] = ()
    wheres: tuple[str | None, ...] = (None,)
    fold: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Positives and negatives."""
        return self.positives + self.negatives


@dataclass(frozen=True)
class Answer:
    """Rankings of at most `DEPTH` hits.

    rankings: one for each filter of the question.
    seconds: by step, of the batch that the question was in.
    """

    rankings: tuple[Ranking, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Search:
    """One ranking that is wanted; equal ones are searched once."""

    positives: tuple[Example, ...]
    negatives: tuple[Example, ...]
    where: str | None
    fold: bool
    generation: int


Outcome = Ranking | Exception


class Answering:
    """Questions about one index -> answers; in one thread, see `BatchQueue`.

    Args:
        served: the index.
        others: all that are served, whose items may be examples.
    """

    def __init__(self, served: Served, others: Mapping[str, Served]) -> None:
        self.served = served
        self.vectors = ExampleVectors(others)
        self._rankings: Recent[_Search, Ranking] = Recent(REMEMBERED)

    def __call__(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """An answer to each question, or why there is none."""
        index, watch = self.served.current(), Stopwatch(*STEPS)
        number = index.store.generation.number
        wanted = [_searches(question, number) for question in questions]
        outcomes = self._known({search for each in wanted for search in each})
        new = {search for each in wanted for search in each if search not in outcomes}
        files = {digest: file for each in questions for digest, file in each.files.items()}
        outcomes |= self._found(index, sorted(new, key=str), files, watch)
        return [_answer([outcomes[search] for search in each], watch) for each in wanted]

    def _known(self, searches: set[_Search]) -> dict[_Search, Outcome]:
        return {each: self._rankings[each] for each in searches if each in self._rankings}

    def _found(
        self,
        index: Index,
        searches: Sequence[_Search],
        files: Mapping[str, bytes],
        watch: Stopwatch,
    ) -> dict[_Search, Outcome]:
        examples = {each for search in searches for each in search.positives + search.negatives}
        vectors = self.vectors(index, self.served.name, examples, files, watch)
        queries = {search: _query(search, vectors) for search in searches}
        outcomes: dict[_Search, Outcome] = {
            search: query for search, query in queries.items() if isinstance(query, Exception)
        }
        together = defaultdict(list)
        for search, query in queries.items():
            if isinstance(query, np.ndarray):
                together[search.where, search.fold].append((search, query))
        with watch("searching"):
            for (where, fold), pairs in together.items():
                outcomes |= self._searched(index, where, fold, pairs)
        for search, outcome in outcomes.items():
            if not isinstance(outcome, Exception):
                self._rankings[search] = outcome
        return outcomes

    def _searched(
        self,
        index: Index,
        where: str | None,
        fold: bool,
        pairs: Sequence[tuple[_Search, NDArray[np.float32]]],
    ) -> dict[_Search, Outcome]:
        own = [_own_ids(search, self.served.name) for search, _ in pairs]
        vectors = np.stack([vector for _, vector in pairs])
        try:
            found = index.search_vectors(vectors, DEPTH, where, exclude=own)
        except InputError as error:
            return {search: error for search, _ in pairs}
        return {
            search: _folded(index, hits) if fold else hits
            for (search, _), hits in zip(pairs, found, strict=True)
        }


def _searches(question: Question, generation: int) -> list[_Search]:
    return [
        _Search(question.positives, question.negatives, where, question.fold, generation)
        for where in question.wheres
    ]


def _query(
    search: _Search, vectors: Mapping[Example, NDArray[np.float32] | Exception]
) -> NDArray[np.float32] | Exception:
    """One vector (D,) of all examples."""
    parts = [[vectors[each] for each in some] for some in (search.positives, search.negatives)]
    for outcome in parts[0] + parts[1]:
        if isinstance(outcome, Exception):
            return outcome
    known = [[each for each in some if isinstance(each, np.ndarray)] for some in parts]
    try:
        return combined(np.stack(known[0]), np.stack(known[1]) if known[1] else None)
    except InputError as error:
        return error


def _folded(index: Index, hits: Ranking) -> Ranking:
    """The same, near-duplicates folded into the best of them; none beyond `DEPTH` is looked for."""
    rows = index.store.rows_of(np.array([hit.id for hit in hits], np.int64))
    groups = folded(index.store.vectors[rows])
    return [
        replace(hits[first], rank=rank, copies=tuple(hits[place].id for place in others))
        for rank, (first, *others) in enumerate(groups, 1)
    ]


def _own_ids(search: _Search, name: str) -> set[int]:
    """The items of the index that are examples, and are not found by themselves."""
    examples = search.positives + search.negatives
    return {each.id for each in examples if isinstance(each, Item) and each.index == name}


def _answer(outcomes: Sequence[Outcome], watch: Stopwatch) -> Answer | Exception:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            return outcome
    rankings = tuple(each for each in outcomes if not isinstance(each, Exception))
    return Answer(rankings, dict(watch.seconds))
