"""What models take images for: a table on the terminal, predictions.csv, and a contact sheet."""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lookalike.data.records import Records
from lookalike.files import writing
from lookalike.inference.classifier import Predictions
from lookalike.inference.vote import Vote
from lookalike.reports.sheet import Tile, contact_sheet
from lookalike.reports.tables import Table, print_table

PRINTED, DRAWN = 40, 60  # images at most; the rest is in the CSV
COLUMNS = 6  # of the sheet


def print_predictions(
    records: Records, predictions: Sequence[Predictions], vote: Vote | None, top: int
) -> None:
    """One row an image, one column a model, the vote last."""
    head = ["image", *(each.model for each in predictions), *(["vote"] if vote else [])]
    lines = []
    for image, path in enumerate(records.paths[:PRINTED]):
        cells = ["\n".join(_percent(*pair) for pair in p.best(image, top)) for p in predictions]
        cells += [_voted(vote, image, predictions)] if vote else []
        lines.append([Path(path).name, *cells])
    more = len(records) - PRINTED
    print_table(Table(head, lines, len(head), [f"and {more} more images"] if more > 0 else []))


def write_predictions(
    file: Path,
    records: Records,
    predictions: Sequence[Predictions],
    vote: Vote | None,
    top: int,
) -> None:
    """One row for each image, model and rank, and one for each vote."""
    with writing(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "model", "rank", "class_name", "probability", "agreement"))
        for image, path in enumerate(records.paths):
            for each in predictions:
                for rank, (name, probability) in enumerate(each.best(image, top), 1):
                    writer.writerow((path, each.model, rank, name, f"{probability:.6f}", ""))
            if vote:
                name = predictions[0].class_names[vote.labels[image]]
                writer.writerow((path, "vote", 1, name, "", f"{vote.agreement[image]:.4f}"))


def predictions_sheet(
    records: Records, predictions: Sequence[Predictions], vote: Vote | None, top: int
) -> Image.Image:
    """Pictures titled with the classes of one model, or with the vote and each model's class."""
    tiles = [
        Tile(path, _title(image, predictions, vote, top), box=records.box(image))
        for image, path in enumerate(records.paths[:DRAWN])
    ]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    return contact_sheet(rows, side=160)


def _title(
    image: int, predictions: Sequence[Predictions], vote: Vote | None, top: int
) -> list[str]:
    if len(predictions) == 1:
        return [_percent(*pair) for pair in predictions[0].best(image, top)]
    voted = [_voted(vote, image, predictions)] if vote else []
    return voted + [_percent(*each.best(image, 1)[0]) for each in predictions]


def _voted(vote: Vote, image: int, predictions: Sequence[Predictions]) -> str:
    agreeing = round(vote.agreement[image] * len(predictions))
    name = predictions[0].class_names[vote.labels[image]]
    return f"{name}, {agreeing} of {len(predictions)}"


def _percent(name: str, probability: float) -> str:
    return f"{name} {probability:.1%}"
