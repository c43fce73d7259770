"""Charts on test embeddings: recall at k, similarities of pairs, distances of classes, hubs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.geometry import (
    class_distances,
    k_occurrences,
    similarity_histograms,
    skewness,
)
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.figures import Figure
from lookalike.reports.page.svg import Chart, Name, Series, legend
from lookalike.reports.page.thumbnails import Picture
from lookalike.retrieval.neighbours import Neighbours

HUBS = 4  # images shown
ROOM = 1.06  # above the highest value
# names and looks
PAIRS = ((Name("positive pairs"), 1), (Name("negative pairs"), 2))
DISTANCES = ((Name("above the line"), 1), (Name("on or below it"), 2))


def recall_figure(found: Neighbours) -> Figure:
    """The share of queries with a relevant image among their k nearest, over k."""
    asked = found.n_relevant > 0
    shares = np.maximum.accumulate(found.relevant[asked], axis=1).mean(axis=0)  # (K,)
    points = [(float(k), float(share)) for k, share in enumerate(shares, start=1)]
    low = min(0.9, float(np.floor(shares[0] * 10) / 10))
    chart = Chart(
        Axis("k, nearest images", 1, max(2, len(points)), log=True),
        Axis("recall@k, share of queries", low, 1.005),
        f"Recall at k rises from {shares[0]:.3f} at 1 to {shares[-1]:.3f} at {len(shares)}.",
    )
    chart.line(Series("recall@k", points), emphasis=True)
    caption = f"Of {asked.sum()} queries with a relevant image; recall@1 is {shares[0]:.3f}."
    return Figure("Recall at k", chart, caption)


def similarity_figure(tested: TestedImages, most: int, seed: int) -> Figure:
    """Histograms of the cosine similarity of positive and of negative pairs.

    Args:
        tested: the images.
        most: images whose pairs are counted.
        seed: of which, if there are more.
    """
    total = len(tested.embeddings)
    rows = np.sort(np.random.default_rng(seed).choice(total, min(most, total), replace=False))
    found = similarity_histograms(tested.embeddings[rows])
    positive, negative = int(found.positive.sum()), int(found.negative.sum())
    shares = [counts / max(1, counts.sum()) for counts in (found.positive, found.negative)]
    first, last = _filled(found.positive + found.negative)
    edges = found.edges[first : last + 2].tolist()
    chart = Chart(
        Axis("cosine similarity", edges[0], edges[-1]),
        Axis("share of pairs", 0, ROOM * float(max(map(np.max, shares)))),
        f"Similarities of {positive} positive and {negative} negative pairs; the histograms "
        f"overlap by {found.overlap:.2f}.",
    )
    for (name, look), share in zip(PAIRS, shares, strict=True):
        heights = [*share[first : last + 1].tolist(), 0.0]
        _bins(chart, Series(name.text, list(zip(edges, heights, strict=True)), look))
    return Figure(
        "Similarity of pairs",
        chart,
        f"{positive:,} positive pairs, {negative:,} negative, of {len(rows)} images; overlap "
        f"{found.overlap:.3f} (0: a threshold separates them).",
        legend(PAIRS, lines=True),
    )


def distance_figure(tested: TestedImages) -> Figure | None:
    """How far apart the images of a class are, against the distance of the nearest class.

    Nothing if there is one class only.
    """
    classes, found = class_distances(tested.embeddings)  # (C,), (C, C), 1 - cos
    if len(classes) < 2:
        return None
    within = found.diagonal().copy()  # (C,), NaN for a class with one image
    np.fill_diagonal(found, np.inf)
    names = [str(tested.class_names[label]) for label in classes]
    looser = within[~np.isnan(within)] >= found.min(axis=1)[~np.isnan(within)]
    between = found[np.isfinite(found)].mean()
    return Figure(
        "Classes, tight and apart",
        _distance_chart(names, within, found),
        f"Mean distance within a class {np.nanmean(within):.3f}, between two {between:.3f}. "
        f"{looser.sum()} of {len(looser)} classes lie below the line: their own images are farther "
        "apart than those of the nearest class are from them.",
        legend(DISTANCES),
    )


def hub_figure(tested: TestedImages, found: Neighbours, k: int) -> Figure:
    """How often an image is among the k nearest of a query, and the images that are most often."""
    gallery = tested.gallery
    counts = k_occurrences(found.ids[:, :k], gallery.ids)  # (G,)
    shares = np.bincount(counts) / len(counts)
    chart = Chart(
        Axis(f"times among the {k} nearest of a query", 0, float(len(shares))),
        Axis("share of images", 0, ROOM * float(shares.max())),
        f"How often an image is among the {k} nearest: skewness {skewness(counts):.2f}.",
    )
    points = [*((float(n), float(share)) for n, share in enumerate(shares)), (len(shares), 0.0)]
    _bins(chart, Series("images", points))
    largest = np.argsort(-counts, kind="stable")[:HUBS]
    rows = tested.rows_of(gallery.ids[largest]).tolist()
    return Figure(
        "Hubs",
        chart,
        f"Skewness {skewness(counts):.2f} (0: even; above 1: hubs). {(counts == 0).mean():.1%} of "
        f"{len(counts)} images are found by no query. The largest hubs:",
        pictures=[
            Picture(str(tested.paths[row]), f"{count}x {tested.class_of(row)}")
            for row, count in zip(rows, counts[largest], strict=True)
        ],
    )


def _filled(counts: NDArray[np.int64]) -> tuple[int, int]:
    """The first and the last bin with anything in it."""
    filled = np.flatnonzero(counts)
    return (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)


def _bins(chart: Chart, series: Series) -> None:
    """A filled histogram with its outline."""
    chart.steps(series, filled=True)
    chart.steps(series)


def _distance_chart(
    names: Sequence[str], within: NDArray[np.float64], between: NDArray[np.float64]
) -> Chart:
    """A point a class: its distance within (C,) and the lowest of those to others (C, C)."""
    closest, nearest = between.min(axis=1), between.argmin(axis=1).tolist()
    highest = 1.08 * float(max(np.nanmax(within, initial=0), closest.max()))
    chart = Chart(
        Axis("mean distance within the class, 1 - cos", 0, highest),
        Axis("mean distance to the nearest class", 0, highest),
        f"{len(names)} classes: the mean distance within against that to the nearest class.",
    )
    chart.reference("as far apart as the nearest class", [(0, 0), (highest, highest)])
    for (kind, look), chosen in zip(DISTANCES, (within < closest, within >= closest), strict=True):
        rows = np.flatnonzero(chosen).tolist()  # of NaN neither is true
        points = [(float(within[row]), float(closest[row])) for row in rows]
        titles = [
            f"{names[row]}: {inner:.2f} within, {outer:.2f} to {names[nearest[row]]}"
            for row, (inner, outer) in zip(rows, points, strict=True)
        ]
        chart.points(Series(kind.text, points, look, titles))
    return chart
