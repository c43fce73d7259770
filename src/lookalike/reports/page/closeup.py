"""A close-up of one run, from its kept test embeddings: neighbours, similarities, a map, hubs."""

import json
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.geometry import (
    Projection,
    class_distances,
    confusions,
    extreme_queries,
    k_occurrences,
    nearest,
    project,
    similarity_histograms,
    skewness,
)
from lookalike.evaluation.metrics import values_of
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page.overview import figure
from lookalike.reports.page.svg import COLOURS, MARKERS, WIDTH, Axis, Chart, Series, legend
from lookalike.reports.page.thumbnails import COLUMNS, SMALL, Sheets, picture
from lookalike.retrieval.neighbours import Neighbours

ANSWERS = 6  # nearest images shown of a query
DEEP = 100  # neighbours up to which recall is drawn
MAP_HEIGHT = 460


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


def close_up(tested: TestedImages, lens: Lens, sheets: Sheets) -> str:
    """HTML of all analyses."""
    queries, gallery = tested.queries, tested.gallery
    found = nearest(queries, gallery, min(len(gallery), max(DEEP, lens.k, ANSWERS)))
    labels = tested.embeddings.labels[tested.rows_of(found.ids[:, 0])]
    answered = found.ids[:, 0] >= 0  # a query may have nothing that it is allowed to meet
    return "".join(
        (
            _neighbours(tested, found, lens),
            '<div class="figures">',
            _map(tested, found, lens, sheets),
            _recall(found),
            _similarities(tested, lens),
            _distances(tested),
            _hubs(tested, found, lens),
            "</div>",
            _confusions(tested, found, queries.labels[answered], labels[answered], answered),
        )
    )


def _neighbours(tested: TestedImages, found: Neighbours, lens: Lens) -> str:
    queries = tested.queries
    values = values_of(queries, tested.gallery, (1,), whole_ranking=False)["map_at_r"]
    best, worst = extreme_queries(values, found.scores[:, 0], queries.labels, lens.queries)
    rng = np.random.default_rng(lens.seed)
    any_ = np.sort(rng.choice(len(queries), min(lens.queries, len(queries)), replace=False))
    parts = (
        ("Worst queries", worst, "The lowest MAP@R, the surest mistakes first.", True),
        ("Random queries", any_, "Drawn without a look at the scores.", False),
        ("Best queries", best, "The highest MAP@R, the surest answers first.", False),
    )
    blocks = []
    for title, rows, caption, opened in parts:
        lines = "".join(_answer(tested, found, int(row), float(values[row])) for row in rows)
        state = " open" if opened else ""
        blocks.append(
            f"<details{state}><summary><h4>{title}</h4> {caption}</summary>{lines}</details>"
        )
    return f"<h3>Queries and their nearest images</h3>{''.join(blocks)}"


def _answer(tested: TestedImages, found: Neighbours, row: int, value: float) -> str:
    query = int(tested.rows_of(tested.queries.ids[row]))
    name = tested.class_of(query)
    tiles = [picture(str(tested.paths[query]), f"query: {name}")]
    for place in range(min(ANSWERS, found.ids.shape[1])):
        if found.ids[row, place] < 0:
            break
        other = int(tested.rows_of(found.ids[row, place]))
        tiles.append(
            picture(
                str(tested.paths[other]),
                f"{found.scores[row, place]:.2f} {tested.class_of(other)}",
                "right" if found.relevant[row, place] else "wrong",
            )
        )
    score = "no other of its class" if np.isnan(value) else f"MAP@R {value:.2f}"
    return f'<div class="answer"><p>{escape(name)} <small>{score}</small></p>{"".join(tiles)}</div>'


def _recall(found: Neighbours) -> str:
    asked = found.n_relevant > 0
    recall = np.maximum.accumulate(found.relevant[asked], axis=1).mean(axis=0)
    points = [(float(k), float(share)) for k, share in enumerate(recall, start=1)]
    low = min(0.9, float(np.floor(recall[0] * 10) / 10))
    chart = Chart(
        Axis("k, nearest images", 1, max(2, len(points)), log=True),
        Axis("recall@k, share of queries", low, 1.005),
        f"Recall at k rises from {recall[0]:.3f} at 1 to {recall[-1]:.3f} at {len(recall)}.",
    )
    chart.line(Series("recall@k", points), emphasis=True)
    caption = f"Of {asked.sum()} queries with a relevant image; recall@1 is {recall[0]:.3f}."
    return figure("Recall at k", chart, caption)


def _similarities(tested: TestedImages, lens: Lens) -> str:
    rng = np.random.default_rng(lens.seed)
    total = len(tested.embeddings)
    rows = np.sort(rng.choice(total, min(lens.pairs_of, total), replace=False))
    histograms = similarity_histograms(tested.embeddings[rows])
    kinds = (("positive pairs", histograms.positive, 1), ("negative pairs", histograms.negative, 2))
    shares = [counts / max(1, counts.sum()) for _, counts, _ in kinds]
    filled = np.flatnonzero(histograms.positive + histograms.negative)
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
    edges = histograms.edges[first : last + 2].tolist()
    chart = Chart(
        Axis("cosine similarity", edges[0], edges[-1]),
        Axis("share of pairs", 0, 1.06 * float(max(map(np.max, shares)))),
        f"Similarities of {histograms.positive.sum()} pairs of one class and "
        f"{histograms.negative.sum()} of two; the histograms overlap by {histograms.overlap:.2f}.",
    )
    for (name, _, look), share in zip(kinds, shares, strict=True):
        heights = [*share[first : last + 1].tolist(), 0.0]
        series = Series(name, list(zip(edges, heights, strict=True)), look)
        chart.steps(series, filled=True)
        chart.steps(series)
    return figure(
        "Similarity of pairs",
        chart,
        f"{histograms.positive.sum():,} positive pairs, {histograms.negative.sum():,} negative, of "
        f"{len(rows)} images; overlap {histograms.overlap:.3f} (0: told apart by a threshold).",
        legend([(name, look) for name, _, look in kinds], lines=True),
    )  # fmt: skip


def _distances(tested: TestedImages) -> str:
    classes, distances = class_distances(tested.embeddings)
    if len(classes) < 2:
        return ""
    within = distances.diagonal().copy()
    between = distances.copy()
    np.fill_diagonal(between, np.inf)
    closest = between.min(axis=1)
    names = [str(tested.class_names[label]) for label in classes]
    titles = [
        f"{name}: {inner:.2f} within, {outer:.2f} to {names[int(other)]}"
        for name, inner, outer, other in zip(
            names, within, closest, between.argmin(axis=1), strict=True
        )
    ]
    measured = ~np.isnan(within)
    highest = 1.08 * float(max(np.nanmax(within, initial=0), closest.max()))
    chart = Chart(
        Axis("mean distance within the class, 1 - cos", 0, highest),
        Axis("mean distance to the nearest class", 0, highest),
        f"{len(classes)} classes: the mean distance within against that to the nearest class.",
    )
    chart.level(0, 0, highest, highest)
    looser = within >= closest
    for name, chosen, look in (("apart", ~looser, 1), ("looser than apart", looser, 2)):
        rows = np.flatnonzero(chosen & measured)
        points = [(float(within[row]), float(closest[row])) for row in rows]
        chart.points(Series(name, points, look, [titles[row] for row in rows]))
    others = between[np.isfinite(between)].mean()
    return figure(
        "Classes, tight and apart",
        chart,
        f"Mean distance within a class {np.nanmean(within):.3f}, between two {others:.3f}. "
        f"{int(looser[measured].sum())} of {int(measured.sum())} classes lie below the line: their "
        "own images are farther apart than those of the nearest class are from them.",
        legend([("above the line", 1), ("on or below it", 2)]),
    )


def _hubs(tested: TestedImages, found: Neighbours, lens: Lens) -> str:
    gallery = tested.gallery
    counts = k_occurrences(found.ids[:, : lens.k], gallery.ids)
    shares = np.bincount(counts) / len(counts)
    chart = Chart(
        Axis(f"times among the {lens.k} nearest of a query", 0, float(len(shares))),
        Axis("share of images", 0, 1.06 * float(shares.max())),
        f"How often an image is among the {lens.k} nearest: skewness {skewness(counts):.2f}.",
    )
    bins = [*((float(n), float(share)) for n, share in enumerate(shares)), (len(shares), 0.0)]
    series = Series("images", bins)
    chart.steps(series, filled=True)
    chart.steps(series)
    largest = np.argsort(-counts, kind="stable")[:4]
    rows = tested.rows_of(gallery.ids[largest])
    hubs = "".join(
        picture(str(tested.paths[row]), f"{count}x {tested.class_of(int(row))}")
        for row, count in zip(rows, counts[largest], strict=True)
    )
    return figure(
        "Hubs",
        chart,
        f"Skewness {skewness(counts):.2f} (0: even; above 1: hubs). {(counts == 0).mean():.1%} of "
        f"{len(counts)} images are found by no query. The largest hubs:",
        after=f'<div class="answer">{hubs}</div>',
    )


def _map(tested: TestedImages, found: Neighbours, lens: Lens, sheets: Sheets) -> str:
    rng = np.random.default_rng(lens.seed)
    total = len(tested.embeddings)
    rows = np.sort(rng.choice(total, min(lens.mapped, total), replace=False))
    plane = project(tested.embeddings.vectors[rows], lens.projection, lens.seed)
    labels = tested.embeddings.labels[rows]
    present = np.unique(labels)
    wrong = _wrongly_answered(tested, found)
    horizontal, vertical = (Axis.around("", plane[:, side].tolist()) for side in (0, 1))
    canvas = Chart(horizontal, vertical, "", MAP_HEIGHT)
    points = []
    for place, (row, label) in enumerate(zip(rows, labels, strict=True)):
        look = int(np.searchsorted(present, label))
        across, down = canvas.at(*plane[place])
        kind = " wrong" if row in wrong else ""
        points.append(
            f'<path class="s{look % COLOURS}{kind}" data-i="{place}" data-c="{look}" '
            f'transform="translate({across} {down})" d="{MARKERS[look % len(MARKERS)]}"/>'
        )
    names = json.dumps([str(tested.class_names[label]) for label in present.tolist()])
    method = {"tsne": "t-SNE", "pca": "principal components"}[lens.projection]
    sheet = sheets.place([str(path) for path in tested.paths[rows]])
    svg = (
        f'<svg class="map" viewBox="0 0 {WIDTH} {MAP_HEIGHT}" role="img" data-sheet="{sheet}" '
        f'data-side="{SMALL}" data-columns="{COLUMNS}" data-names="{escape(names)}" '
        f'aria-label="Map of {len(rows)} test images of {len(present)} classes by {method}.">'
        f'<g class="points">{"".join(points)}</g></svg>'
    )
    control = (
        '<label class="switch"><input type="checkbox" class="only-wrong"> '
        "only images whose nearest is of another class</label>"
    )
    return figure(
        "Map of the embedding space",
        svg,
        f"{len(rows)} of {total} test images by {method}, seed {lens.seed}; each class has a "
        "colour and a shape, which repeat. Point at an image to see it and its class.",
        control,
        kind="wide",
    )


def _wrongly_answered(tested: TestedImages, found: Neighbours) -> set[int]:
    """Rows of images whose nearest one is of another class."""
    missed = (found.ids[:, 0] >= 0) & ~found.relevant[:, 0]
    return set(tested.rows_of(tested.queries.ids[missed]).tolist())


def _confusions(
    tested: TestedImages,
    found: Neighbours,
    labels: NDArray[np.int64],
    nearest_labels: NDArray[np.int64],
    answered: NDArray[np.bool_],
    most: int = 8,
) -> str:
    listed = confusions(labels, nearest_labels)[:most]
    if not listed:
        return "<h3>Classes confused</h3><p>The nearest image is always of the query's class.</p>"
    queries = tested.rows_of(tested.queries.ids[answered])
    answers = tested.rows_of(found.ids[answered, 0])
    rows = []
    for confusion in listed:
        hit = (labels == confusion.label) & (nearest_labels == confusion.mistaken_for)
        example = int(np.flatnonzero(hit)[0])
        pair = (int(queries[example]), int(answers[example]))
        tiles = "".join(picture(str(tested.paths[row]), tested.class_of(row)) for row in pair)
        share = f"{confusion.found} of {confusion.queries} queries"
        rows.append(f'<div class="answer pair"><p>{share}</p>{tiles}</div>')
    return (
        "<h3>Classes confused</h3><p>A query, and the image of another class that is nearest to "
        f'it; the most frequent pairs of classes.</p><div class="pairs">{"".join(rows)}</div>'
    )
