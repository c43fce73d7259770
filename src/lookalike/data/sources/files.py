"""The image files below a folder, and what lies beside them and is skipped."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lookalike.data.formats import PLUGINS, extensions
from lookalike.errors import InputError

log = logging.getLogger(__name__)

# folders that programs leave, in lower case
LEFT_BEHIND = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "__pycache__"}
NAMED = 3  # skipped files of a kind that are named


@dataclass(frozen=True)
class Skipped:
    """What is skipped, by kind.

    files: kind, such as ".heic", -> paths.
    empty: class folders without images.
    """

    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    empty: list[str] = field(default_factory=list)

    def add(self, kind: str, path: Path) -> None:
        """Count a file, or a folder, as skipped."""
        self.files[kind].append(str(path).encode(errors="replace").decode())

    def __str__(self) -> str:
        """Such as "3 files skipped: 2 .heic (a.heic, b.heic), 1 .txt (notes.txt)"; "" for none."""
        kinds = sorted(self.files.items(), key=lambda each: (-len(each[1]), each[0]))
        if not kinds:
            return ""
        count = sum(len(paths) for paths in self.files.values())
        listed = ", ".join(f"{len(paths)} {kind} ({some(paths)})" for kind, paths in kinds)
        missing = sorted({PLUGINS[kind] for kind, _ in kinds if kind in PLUGINS})
        hint = f". To read them: pip install {' '.join(missing)}" if missing else ""
        return f"{count} file{'s' if count > 1 else ''} skipped: {listed}{hint}"


def images_below(folder: Path, skipped: Skipped | None = None) -> list[Path]:
    """All image files in a folder and its subfolders, sorted.

    Hidden files and folders are skipped, and so are folders that programs leave (`__MACOSX`). Links
    are followed, but not into a folder that holds the link.

    Args:
        folder: to search.
        skipped: learns what is skipped.
    """
    skipped = Skipped() if skipped is None else skipped
    return sorted(file for file in _files_below(folder, (), skipped) if is_image(file, skipped))


def is_image(file: Path, skipped: Skipped) -> bool:
    """Whether a file is an image by its name; otherwise it is counted as skipped."""
    kind = file.suffix.lower()
    known = kind in extensions()
    if is_hidden(file):
        if known and not file.name.startswith("._"):  # macOS's notes on a file
            skipped.add("hidden", file)
        return False
    if not file.is_file():
        skipped.add("broken link", file)
        return False
    if known and not _is_text(file.name):
        raise InputError(f"the name of {str(file)!r} is not in UTF-8: rename it")
    if not known:
        skipped.add(kind or "without extension", file)
    return known


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, and links to folders; hidden ones are skipped."""
    return [child for child, is_folder in _children(folder) if is_folder and not is_hidden(child)]


def files_in(folder: Path) -> list[Path]:
    """All that is in a folder and no folder, sorted."""
    return [child for child, is_folder in _children(folder) if not is_folder]


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is not meant to be read."""
    return path.name.startswith(".") or path.name.lower() in LEFT_BEHIND


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _is_text(name: str) -> bool:
    """Whether a name is in UTF-8; those of old archives may not be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _children(folder: Path) -> list[tuple[Path, bool]]:
    """All that is in a folder, sorted, and whether it is a folder or a link to one."""
    try:
        with os.scandir(folder) as entries:
            return sorted((folder / entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise InputError(f"can't read the folder {folder} ({error.strerror})") from error


def _files_below(folder: Path, above: tuple[str, ...], skipped: Skipped) -> Iterator[Path]:
    """All but folders; `above` are the folders on the way, by which loops of links are found."""
    real = os.path.realpath(folder)
    if real in above:
        return
    yield from files_in(folder)
    for child in folders_in(folder):
        yield from _files_below(child, (*above, real), skipped)
