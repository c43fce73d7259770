"""A map of test images: their embeddings in the plane, with a picture beside the pointer."""

import json
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lookalike.evaluation.geometry import Projection, project
from lookalike.reports.embeddings import TestedImages
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.figures import Figure
from lookalike.reports.page.svg import EMPTY, GROUP, WIDTH, Chart
from lookalike.reports.page.thumbnails import COLUMNS, SMALL, Sheets
from lookalike.reports.style import colour_number, marker
from lookalike.retrieval.neighbours import Neighbours

HEIGHT = 460  # pixels
METHODS: dict[Projection, str] = {"tsne": "t-SNE", "pca": "principal components"}
# page.js reads data-i, the place of the picture on the sheet, and data-c, the class
POINT = Markup('<path class="s{}{}" data-i="{}" data-c="{}" transform="translate({} {})" d="{}"/>')
WHOLE = Markup(
    '<svg class="map" viewBox="0 0 {} {}" role="img" data-sheet="{}" data-side="{}" '
    'data-columns="{}" data-names="{}" aria-label="{}">{}</svg>'
)


def map_figure(
    tested: TestedImages,
    found: Neighbours,
    most: int,
    projection: Projection,
    seed: int,
    sheets: Sheets,
) -> Figure:
    """The map of some images; each class has a colour and a shape.

    Args:
        tested: the images.
        found: the nearest of every query.
        most: images on the map.
        projection: "tsne" or "pca".
        seed: of the projection, and of which images if there are more.
        sheets: get the small pictures.
    """
    total = len(tested.embeddings)
    rows = np.sort(np.random.default_rng(seed).choice(total, min(most, total), replace=False))
    plane = project(tested.embeddings.vectors[rows], projection, seed)  # (M, 2)
    classes, of = np.unique(tested.embeddings.labels[rows], return_inverse=True)
    wrong = np.isin(rows, _wrongly_answered(tested, found))
    names = [str(tested.class_names[label]) for label in classes.tolist()]
    sheet = sheets.place([str(path) for path in tested.paths[rows]])
    text = f"Map of {len(rows)} test images of {len(classes)} classes by {METHODS[projection]}."
    drawn = GROUP.format("points", EMPTY.join(_points(plane, of, wrong)))
    return Figure(
        "Map of the embedding space",
        WHOLE.format(WIDTH, HEIGHT, sheet, SMALL, COLUMNS, json.dumps(names), text, drawn),
        f"{len(rows)} of {total} test images by {METHODS[projection]}, seed {seed}; each class has "
        "a colour and a shape, which repeat. Point at an image to see it and its class.",
        switch="only images whose nearest is of another class",
    )


def _points(
    plane: NDArray[np.float64], classes: NDArray[np.int64], wrong: NDArray[np.bool_]
) -> Sequence[Markup]:
    """Signs of images at (M, 2), with their classes (M,), and whether the nearest is wrong (M,)."""
    x, y = (Axis.around("", plane[:, side].tolist()) for side in (0, 1))
    chart = Chart(x, y, "", HEIGHT)
    columns = zip(plane.tolist(), classes.tolist(), wrong.tolist(), strict=True)
    return [
        POINT.format(colour_number(look), " wrong" if missed else "", place, look,
                     *chart.at(*point), marker(look).path)
        for place, (point, look, missed) in enumerate(columns)
    ]  # fmt: skip


def _wrongly_answered(tested: TestedImages, found: Neighbours) -> NDArray[np.int64]:
    """Rows of images whose nearest one is of another class."""
    missed = (found.ids[:, 0] >= 0) & ~found.relevant[:, 0]
    return tested.rows_of(tested.queries.ids[missed])
