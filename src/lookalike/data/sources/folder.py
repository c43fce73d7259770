"""Your own images in class folders: root/<class>/**/image, or root/{train,val,test}/<class>/..."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike.data.formats import extensions
from lookalike.data.records import Records
from lookalike.data.sources.copies import check_once
from lookalike.data.sources.files import (
    Skipped,
    files_in,
    folders_in,
    images_below,
    is_image,
    some,
)
from lookalike.data.sources.twins import warn_of_twins
from lookalike.errors import InputError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
Row = tuple[Path, str, str]  # image, class, split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """Class folders, with or without folders train/, val/ and test/ above them.

    Hidden files and folders are skipped, and so are files without the extension of an image. What
    is skipped is counted and logged.

    root: the folder that holds the class folders, or the folders of splits.
    labelled: whether an image has to lie in one class folder and no other; without it, images
        beside the class folders are of one class, "".
    """

    root: str
    labelled: bool = True

    def prepare(self) -> None:
        """Check that there are class folders with images; see `records`."""
        self._rows(Skipped())

    def records(self) -> Records:
        """All images, sorted by split, class and file name.

        Raises:
            InputError: `root` is missing or holds no class folder with images, it can't be said
                what a folder stands for, or a file is there twice.
        """
        skipped = Skipped()
        rows = self._rows(skipped)
        if skipped.files:
            log.warning("%s", skipped)
        if skipped.empty:
            count = len(skipped.empty)
            log.warning("class folders without images: %d (%s)", count, some(skipped.empty))
        paths, class_names, splits = zip(*rows, strict=True)
        warn_of_twins(class_names)
        return Records.create(paths, class_names, splits=splits)

    def _rows(self, skipped: Skipped) -> list[Row]:
        root = Path(str(self.root))  # a name such as 2024 is a number to Hydra
        if not root.is_dir():
            raise InputError(
                f"no folder at {root.resolve()}. Set data.root=<folder of class folders>."
            )
        parts = _split_folders(root, self.labelled)
        rows = [
            row
            for above, split in (parts or {root: ""}).items()
            for row in self._rows_of_classes(above, split, skipped)
        ]
        if parts:
            rows += self._rows_beside(root, parts, skipped)
        if not rows:
            raise InputError(
                f"no images in class folders under {root.resolve()}. Expected <class>/<image> or "
                f"train/<class>/<image>, with one of {' '.join(sorted(extensions()))}."
                + (f" {skipped}." if skipped.files else "")
            )
        if self.labelled:
            check_once([row[0] for row in rows], [f"{row[0]} (class {row[1]!r})" for row in rows])
        return rows

    def _rows_of_classes(self, above: Path, split: str, skipped: Skipped) -> list[Row]:
        found = {folder: images_below(folder, skipped) for folder in folders_in(above)}
        loose = [file for file in files_in(above) if is_image(file, skipped)]
        if not self.labelled:
            return _rows(found, split) + [(image, "", split) for image in loose]
        if split and loose and not any(found.values()):
            raise InputError(
                f"{above} holds {len(loose)} images and no class folders. Expected "
                f"{above.name}/<class>/<image>; or rename {above.name}, if it is a class."
            )
        skipped.empty.extend(str(folder) for folder, images in found.items() if not images)
        for image in loose:
            skipped.add("outside of class folders", image)
        return _rows(found, split)

    def _rows_beside(self, root: Path, parts: Collection[Path], skipped: Skipped) -> list[Row]:
        """The images in none of the splits: skipped, or of class "" if they need no label."""
        beside = [folder for folder in folders_in(root) if folder not in parts]
        images = [image for folder in beside for image in images_below(folder, skipped)]
        images += [file for file in files_in(root) if is_image(file, skipped)]
        if not self.labelled:
            return [(image, "", "") for image in images]
        for image in images:
            skipped.add(f"beside {', '.join(part.name for part in parts)}", image)
        return []


def _rows(found: Mapping[Path, Sequence[Path]], split: str) -> list[Row]:
    return [(image, folder.name, split) for folder, images in found.items() for image in images]


def _split_folders(root: Path, labelled: bool) -> dict[Path, str]:
    """The folders train/, val/ and test/ with their splits; none where they are classes.

    Raises:
        InputError: a single one lies beside folders of images, and may be a class or a split.
    """
    folders = folders_in(root)
    parts = {f: SPLIT_FOLDERS[f.name.lower()] for f in folders if f.name.lower() in SPLIT_FOLDERS}
    if len(set(parts.values())) != 1:
        return parts
    (part, *_) = parts
    others = [str(f) for f in folders if f not in parts and images_below(f)]
    if not others:
        return parts
    if not labelled or not any(images_below(child) for child in folders_in(part)):
        return {}
    raise InputError(
        f"is {part} a split or a class? {some(others)} beside it hold images too. For a split, "
        f"move these elsewhere; for classes, rename {part.name} or move its images out of their "
        "subfolders."
    )
