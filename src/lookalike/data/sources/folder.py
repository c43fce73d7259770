"""Your own images in class folders: root/<class>/**/image, or root/{train,val,test}/<class>/..."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.errors import InputError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True)
class Folder:
    """Class folders, with or without folders train/, val/ and test/ above them.

    Hidden files and folders are skipped, and so are files without the extension of an image.

    root: the folder that holds the class folders, or the folders of splits.
    """

    root: str

    def prepare(self) -> None:
        """Check that there are class folders with images; see `records`."""
        self.records()

    def records(self) -> Records:
        """All images, sorted by split, class and file name.

        Raises:
            InputError: `root` is missing, or holds no class folder with images.
        """
        root = Path(self.root)
        if not root.is_dir():
            raise InputError(
                f"no folder at {root.resolve()}. Set data.root=<folder of class folders>."
            )
        parts = {child: SPLIT_FOLDERS.get(child.name.lower(), "") for child in _folders(root)}
        split_above = bool(parts) and all(parts.values())
        rows = [
            (image, class_folder.name, split)
            for above, split in (parts if split_above else {root: ""}).items()
            for class_folder in _folders(above)
            for image in images_below(class_folder)
        ]
        if not rows:
            raise InputError(
                f"no images in class folders under {root.resolve()}. Expected <class>/<image> or "
                f"train/<class>/<image>, with one of {' '.join(sorted(EXTENSIONS))}."
            )
        paths, class_names, splits = zip(*rows, strict=True)
        return Records.create(paths, class_names, splits=splits)


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not _hidden(child))


def images_below(folder: Path) -> list[Path]:
    """All image files in a folder and its subfolders, sorted; hidden files are skipped."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in EXTENSIONS and not _hidden(file) and file.is_file()
    )


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
