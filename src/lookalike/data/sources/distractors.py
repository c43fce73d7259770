"""Distractors: images that are in the gallery only and answer no query."""

from pathlib import Path

from lookalike.data.sources.files import images_below
from lookalike.errors import InputError

UNLABELLED = "(no class)"  # of images of which nobody says what they show; no query has it


def distractors_in(folder: str | None) -> list[Path]:
    """All images in a folder and its subfolders, sorted; none if there is no folder.

    Args:
        folder: as data.source.distractors gives it.

    Raises:
        InputError: there is no such folder, or it has no images.
    """
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise InputError(
            f"data.source.distractors={folder} is no folder. Give that of the unpacked images, or "
            "leave it out to measure without them."
        )
    found = images_below(Path(folder))
    if not found:
        raise InputError(
            f"data.source.distractors={folder} has no images. Unpack the archives there first."
        )
    return found
