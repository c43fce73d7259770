"""A close-up of one run, from its kept test embeddings: neighbours, charts, classes confused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lookalike.evaluation.geometry import (
    Projection,
    confusions,
    extreme_queries,
    nearest,
)
from lookalike.evaluation.metrics import values_of
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page import closeup_charts
from lookalike.reports.page.embedding_map import map_figure
from lookalike.reports.page.rendering import rendered
from lookalike.reports.page.thumbnails import Picture, Sheets
from lookalike.retrieval.neighbours import Neighbours

ANSWERS = 6  # nearest images shown of a query
DEEP = 100  # neighbours up to which recall is drawn
CONFUSED = 8  # pairs of classes shown


@dataclass(frozen=True)
class Lens:
    """What a close-up looks at.

    Args:
        k: neighbours in which hubs are counted.
        queries: of the best, of the worst and of any kind that are shown.
        pairs_of: images whose pairs are counted in the histograms, at most; drawn at random.
        mapped: images on the map, at most; drawn at random.
        projection: of the map, "tsne" or "pca".
        seed: of what is drawn at random.
    """

    k: int = 10
    queries: int = 5
    pairs_of: int = 3000
    mapped: int = 800
    projection: Projection = "tsne"
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """A query with what was found.

    Args:
        name: its class, or what it is an example of.
        pictures: the query first.
        score: in words.
    """

    name: str
    pictures: Sequence[Picture]
    score: str = ""


@dataclass(frozen=True)
class Group:
    """Queries of a kind.

    Args:
        name: of the kind.
        caption: how they were chosen.
        answers: one a query.
        opened: whether they are seen without a click.
    """

    name: str
    caption: str
    answers: Sequence[Answer]
    opened: bool = False


def close_up(tested: TestedImages, lens: Lens, sheets: Sheets) -> Markup:
    """HTML of all analyses; the map's small pictures go to the sheets."""
    gallery = tested.gallery
    found = nearest(tested.queries, gallery, min(len(gallery), max(DEEP, lens.k, ANSWERS)))
    charts = [
        map_figure(tested, found, lens.mapped, lens.projection, lens.seed, sheets),
        closeup_charts.recall_figure(found),
        closeup_charts.similarity_figure(tested, lens.pairs_of, lens.seed),
        closeup_charts.distance_figure(tested),
        closeup_charts.hub_figure(tested, found, lens.k),
    ]
    return rendered(
        "closeup",
        groups=_groups(tested, found, lens),
        charts=[chart for chart in charts if chart is not None],
        confused=_confused(tested, found),
    )


def _groups(tested: TestedImages, found: Neighbours, lens: Lens) -> list[Group]:
    """The worst queries, some drawn at random, and the best."""
    queries = tested.queries
    values = values_of(queries, tested.gallery, (1,), whole_ranking=False)["map_at_r"]
    best, worst = extreme_queries(values, found.scores[:, 0], queries.labels, lens.queries)
    rng = np.random.default_rng(lens.seed)
    drawn = np.sort(rng.choice(len(queries), min(lens.queries, len(queries)), replace=False))

    def answers(rows: Iterable[int]) -> list[Answer]:
        return [_answer(tested, found, int(row), float(values[row])) for row in rows]

    mistakes, right = "the surest mistakes first.", "the surest answers first."
    return [
        Group("Worst queries", f"The lowest MAP@R, {mistakes}", answers(worst), opened=True),
        Group("Random queries", "Drawn without a look at the scores.", answers(drawn)),
        Group("Best queries", f"The highest MAP@R, {right}", answers(best)),
    ]


def _answer(tested: TestedImages, found: Neighbours, row: int, value: float) -> Answer:
    """A query by its row, and its MAP@R, NaN if it has no relevant image."""
    query = int(tested.rows_of(tested.queries.ids[row]))
    name = tested.class_of(query)
    places = [place for place in range(min(ANSWERS, found.ids.shape[1])) if
              found.ids[row, place] >= 0]  # fmt: skip
    pictures = [_neighbour(tested, found, row, place) for place in places]
    score = "no other of its class" if np.isnan(value) else f"MAP@R {value:.2f}"
    asked = Picture(str(tested.paths[query]), f"query: {name}")
    return Answer(name, [asked, *pictures], score)


def _neighbour(tested: TestedImages, found: Neighbours, row: int, place: int) -> Picture:
    other = int(tested.rows_of(found.ids[row, place]))
    return Picture(
        str(tested.paths[other]),
        f"{found.scores[row, place]:.2f} {tested.class_of(other)}",
        "right" if found.relevant[row, place] else "wrong",
    )


def _confused(tested: TestedImages, found: Neighbours) -> list[Answer]:
    """The most frequent pairs of classes, with an example each."""
    answered = found.ids[:, 0] >= 0  # a query may have nothing that it is allowed to meet
    queries = tested.rows_of(tested.queries.ids[answered])
    answers = tested.rows_of(found.ids[answered, 0])
    labels, mistaken = (tested.embeddings.labels[rows] for rows in (queries, answers))
    pairs = []
    for confusion in confusions(labels, mistaken)[:CONFUSED]:
        hit = (labels == confusion.label) & (mistaken == confusion.mistaken_for)
        example = int(np.flatnonzero(hit)[0])
        share = f"{confusion.found} of {confusion.queries} queries"
        pairs.append(Answer(share, _pictures(tested, np.array([queries, answers])[:, example])))
    return pairs


def _pictures(tested: TestedImages, rows: NDArray[np.int64]) -> list[Picture]:
    """Of some rows, captioned with their classes."""
    return [Picture(str(tested.paths[row]), tested.class_of(row)) for row in rows.tolist()]
